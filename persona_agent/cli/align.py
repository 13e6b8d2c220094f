"""Commands that use a model: ask and align."""

from __future__ import annotations

import click

from persona_agent.align import Alignment, AlignOptions
from persona_agent.aligner import Progress
from persona_agent.cli.settings import Settings, progress_bars
from persona_agent.errors import PersonaAgentError
from persona_agent.program import Result


@click.command()
@click.argument("user")
@click.argument("question")
@click.option("--max-tokens", type=click.IntRange(1), default=400, show_default=True)
@click.pass_obj
def ask(settings: Settings, user: str, question: str, max_tokens: int) -> None:
    """Answer QUESTION for USER, with the persona and the memories that fit."""
    with settings.open() as agent:
        answer = agent.ask(question, user_id=user, max_tokens=max_tokens)
    note = f"[persona version {answer.persona_version}, {len(answer.memories)} memories]"
    settings.show(answer, f"{answer.text}\n{note}")


@click.command()
@click.argument("users", nargs=-1)
@click.option("--all", "everybody", is_flag=True, help="Align every user.")
@click.option("--rounds", type=click.IntRange(1), default=3, show_default=True)
@click.option("--recent", type=click.IntRange(1), default=3, show_default=True)
@click.option("--held-out", type=click.IntRange(2), default=12, show_default=True)
@click.option("--risk", type=click.FloatRange(0, 0.5, True, True), default=0.1, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True)
@click.pass_obj
def align(
    settings: Settings,
    users: tuple[str, ...],
    everybody: bool,
    rounds: int,
    recent: int,
    held_out: int,
    risk: float,
    seed: int,
) -> None:
    """Optimise the personas of USERS; a change must prove itself on held-out interactions.

    --recent interactions are learned from, --held-out later ones judge; --risk is the chance of
    accepting a persona that is no better. What was stopped resumes.
    """
    if bool(users) == everybody:
        raise click.UsageError("name users, or give --all")
    options = AlignOptions(recent=recent, held_out=held_out, rounds=rounds, risk=risk, seed=seed)
    with settings.open() as agent, progress_bars() as bars:
        names = agent.users() if everybody else list(users)
        bar = bars.add_task("aligning", total=len(names))

        def tell(progress: Progress) -> None:
            bars.update(
                bar,
                completed=progress.done,
                description=f"aligning, {progress.model_requests} requests",
            )

        results = agent.align(names, options=options, on_round=tell)
        bars.update(bar, completed=len(names), description="aligned")
    shown = [
        {"user": name, "alignment": result.value, "error": result.reason or None}
        for name, result in zip(names, results, strict=True)
    ]
    settings.show(shown, "\n".join(map(_line, names, results)))
    failed = sum(not result.ok for result in results)
    if failed:
        raise PersonaAgentError(f"{failed} of {len(names)} users could not be aligned")


def _line(name: str, result: Result[Alignment]) -> str:
    return str(result.value) if result.ok else f"{name}: not aligned: {result.error}"
