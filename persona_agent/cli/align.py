"""Commands that use a model: ask and align."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import closing, redirect_stdout
from typing import Any, TypeAlias

import click

from persona_agent.align import Alignment, AlignOptions
from persona_agent.aligner import Progress
from persona_agent.cli.settings import Settings, progress_bars
from persona_agent.cluster import Engine, Fleet, align_users, saved_states
from persona_agent.cluster import Progress as FleetProgress
from persona_agent.cost import Cost
from persona_agent.dual import MemoryPlan
from persona_agent.errors import PersonaAgentError
from persona_agent.llm.metered import metered
from persona_agent.program import Result
from persona_agent.think import Style, ThinkOptions

Shown: TypeAlias = dict[str, Any]  # Any: records of several kinds, to be printed as JSON


@click.command()
@click.argument("user")
@click.argument("question")
@click.option("--max-tokens", type=click.IntRange(1), default=400, show_default=True)
@click.option("--think", type=click.Choice(["personal", "generic"]), help="Think before answering.")
@click.option("--budget", type=click.IntRange(8), default=256, help="Tokens of a thought.")
@click.option("--adapter", help="Weights tuned on USER, by the name they are served under.")
@click.pass_obj
def ask(
    settings: Settings,
    user: str,
    question: str,
    max_tokens: int,
    think: Style | None,
    budget: int,
    adapter: str | None,
) -> None:
    """Answer QUESTION for USER, with the persona and the memories that fit."""
    thinking = None if think is None else ThinkOptions(think, budget)
    plan = MemoryPlan(summary=True, think=thinking, adapter=adapter)
    with settings.open() as agent:
        answer = agent.ask(question, user_id=user, max_tokens=max_tokens, plan=plan)
    note = f"[persona version {answer.persona_version}, {len(answer.memories)} memories]"
    settings.show(answer, f"{answer.text}\n{note}")


@click.command()
@click.argument("users", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Align every user.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--recent", type=click.IntRange(1), default=3, show_default=True)
@click.option("--held-out", type=click.IntRange(2), default=12, show_default=True)
@click.option("--risk", type=click.FloatRange(0, 0.5, True, True), default=0.05, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Work in this process, or by a fleet of workers on Ray.",
)
@click.option("--workers", type=click.IntRange(1), help="Ray: how many workers.  [default: 2]")
@click.option("--batch", type=click.IntRange(1), help="Ray: users a worker has at a time.")
@click.option("--address", help="Ray: a running cluster; without it, one on this machine.")
@click.option(
    "--gpus",
    type=click.FloatRange(0, min_open=True),
    help="Ray: GPUs of a worker's engine; reserved for it, unless the model is an endpoint.",
)
@click.pass_obj
def align(
    settings: Settings,
    /,
    users: tuple[str, ...],
    everybody: bool,
    rounds: int,
    recent: int,
    held_out: int,
    risk: float,
    seed: int,
    engine: str,
    **given: Any,  # Any: the options of Ray, None where they are not given
) -> None:
    """Optimise the personas of USERS; a change must prove itself on held-out interactions.

    --recent interactions are learned from, --held-out later ones judge; --risk is the chance of
    accepting a persona that is no better. What was stopped resumes. At the end stands what it
    cost. With --engine ray the database is a PostgreSQL URL, or on one machine a file.
    """
    if bool(users) == everybody:
        raise click.UsageError("name users, or give --all")
    options = AlignOptions(recent=recent, held_out=held_out, rounds=rounds, risk=risk, seed=seed)
    fleet = {name: value for name, value in given.items() if value is not None}
    if engine == "ray":
        shown, lines = _by_fleet(settings, users or None, options, fleet)
    elif fleet:
        raise click.UsageError(f"--{min(fleet)} is an option of --engine ray")
    else:
        shown, lines = _here(settings, users or None, options)
    settings.show(shown, "\n".join(lines))
    failed = sum(row["error"] is not None for row in shown["results"])
    if failed:
        raise PersonaAgentError(f"{failed} of {len(shown['results'])} users could not be aligned")


def _here(
    settings: Settings, users: Sequence[str] | None, options: AlignOptions
) -> tuple[Shown, list[str]]:
    """Return what aligning in this process led to, as JSON data and as lines."""
    begun = time.perf_counter()
    with (
        closing(metered(settings.model())) as model,
        settings.open(model=model) as agent,
        progress_bars() as bars,
    ):
        names = agent.users() if users is None else list(users)
        bar = bars.add_task("aligning", total=len(names))

        def tell(progress: Progress) -> None:
            bars.update(
                bar,
                completed=progress.done,
                description=f"aligning, {progress.model_requests} requests",
            )

        before = saved_states(agent, names, settings.tenant)
        results = agent.align(names, options=options, on_round=tell)
        after = saved_states(agent, names, settings.tenant)
        bars.update(bar, completed=len(names), description="aligned")
    worked = sum(
        result.ok and old != new for result, old, new in zip(results, before, after, strict=True)
    )
    seconds, spent = time.perf_counter() - begun, model.take()
    cost = Cost(worked, spent.usage, seconds, seconds, spent.seconds)
    rows = [
        {"user": name, "alignment": result.value, "error": result.reason or None}
        for name, result in zip(names, results, strict=True)
    ]
    shown = {"results": rows, "ended": [], "cost": cost.to_json()}
    return shown, [*map(_line, names, results), str(cost)]


def _by_fleet(
    settings: Settings,
    users: Sequence[str] | None,
    options: AlignOptions,
    given: Mapping[str, Any],
) -> tuple[Shown, list[str]]:
    """Return what aligning on Ray led to, as JSON data and as lines."""
    gpus = given.get("gpus")
    behind_endpoint = settings.llm.startswith("openai:")
    fleet = Fleet(**{**given, "gpus": 0.0 if gpus is None or behind_endpoint else gpus})
    engine = Engine(
        settings.llm,
        base_url=settings.base_url,
        threads=settings.threads,
        embedder=settings.embedder,
        gpus=1.0 if gpus is None else gpus,
    )
    with progress_bars() as bars, redirect_stdout(sys.stderr):  # Ray prints of its own accord
        bar = bars.add_task("starting workers", total=None)

        def tell(progress: FleetProgress) -> None:
            bars.update(
                bar,
                total=progress.users,
                completed=progress.done + progress.failed,
                description=f"aligning, {progress.users_per_s:.1f} users/s, "
                f"{progress.failed} failed",
            )
            if progress.news:
                bars.console.print(progress.news, markup=False, highlight=False)

        report = align_users(
            settings.db,
            users,
            engine=engine,
            fleet=fleet,
            options=options,
            tenant=settings.tenant,
            environ=settings.environ,
            on_progress=tell,
        )
    rows = [
        {"user": one.user, "alignment": None if one.error else one, "error": one.error}
        for one in report.results
    ]
    shown = {"results": rows, "ended": report.ended, "cost": report.cost.to_json()}
    return shown, [*map(str, report.results), str(report.cost)]


def _line(name: str, result: Result[Alignment]) -> str:
    return str(result.value) if result.ok else f"{name}: not aligned: {result.error}"
