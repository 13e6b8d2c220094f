"""Commands that measure speed; each prints one flat JSON object as its last line with --json."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import click

from persona_agent.cli.settings import Settings, data_folder
from persona_agent.eval.bench import act as act_bench
from persona_agent.eval.bench import cluster as cluster_bench
from persona_agent.eval.bench import faults as faults_bench
from persona_agent.eval.bench import generation as generation_bench
from persona_agent.eval.bench import loop as loop_bench
from persona_agent.eval.bench import mem0
from persona_agent.eval.bench import memory as memory_bench


@click.group()
def bench() -> None:
    """Measure speed on this machine. --quick ends within 45 seconds, with the same keys."""


@bench.command()
@click.option("--quick", is_flag=True, help="Fewer users.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
def loop(quick: bool, as_json: bool) -> None:
    """Align many users with a model that costs nothing: what the framework itself costs."""
    _show(loop_bench.measure(users=200 if quick else 1000), as_json)


@bench.command()
@click.option("--quick", is_flag=True, help="Fewer repetitions.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
def act(quick: bool, as_json: bool) -> None:
    """Answer one question at 1,000 memories: everything but the model, and the embedding."""
    _show(act_bench.measure(repeats=50 if quick else 300), as_json)


@bench.command()
@click.option("--quick", is_flag=True, help="20,000 memories instead of 100,000 and a million.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
@click.option(
    "--peers", is_flag=True, help="Install mem0 in a temporary place and measure it, too."
)
def memory(quick: bool, as_json: bool, peers: bool) -> None:
    """Add and search memories of many users, beside raw sqlite3 and FAISS."""
    figures = memory_bench.run(quick=quick)
    if peers:
        figures |= mem0.measure(quick=quick)
    _show(figures, as_json)


@bench.command()
@click.option("--quick", is_flag=True, help="The embedded llama.cpp alone; vLLM's keys are null.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
@click.option("--compare", is_flag=True, help="Also one user and call at a time, by a server.")
def generation(quick: bool, as_json: bool, compare: bool) -> None:
    """Align real histories in batches and one by one: what batching and prefixes are worth."""

    def tell(text: str) -> None:
        click.echo(text, err=True)

    _show(generation_bench.measure(quick=quick, compare=compare, tell=tell), as_json)


@bench.command()
@click.option("--quick", is_flag=True, help="Fewer deaths and operations.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
def faults(quick: bool, as_json: bool) -> None:
    """Kill writers, let many write at once, forget: what is lost, doubled, leaked or left."""
    kills, operations = (10, 1_000) if quick else (200, 100_000)
    _show(faults_bench.measure(kills=kills, operations=operations), as_json)


@bench.command()
@click.option("--quick", is_flag=True, help="Fewer users.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
def cluster(quick: bool, as_json: bool) -> None:
    """Align users by one worker on Ray, by two, and by two of which one is killed half way."""
    with redirect_stdout(sys.stderr):  # Ray prints of its own accord
        figures = cluster_bench.measure(users=80 if quick else 200)
    _show(figures, as_json)


@bench.command()
@click.option("--quick", is_flag=True, help="One split instead of five, and fewer people to serve.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
@click.option(
    "--peers", is_flag=True, help="Install RecBole, cornac and implicit apart, and measure them."
)
@data_folder("The folder of data, for models that learn from a graph.")
def recommend(quick: bool, as_json: bool, peers: bool, data: Path | None) -> None:
    """Rank films of MovieLens-100K by every recommender: how good, how fast."""
    from persona_agent.eval.bench import recommend as ranking  # late: needs the extra `recommend`

    _show(ranking.measure(data, quick=quick, peers=peers), as_json)


@bench.command()
@click.option("--quick", is_flag=True, help="40 ratings instead of 120.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
def train(quick: bool, as_json: bool) -> None:
    """Train an adapter of the embedded model, beside the plain loop that one writes with peft."""
    from persona_agent.eval.bench import train as train_bench  # late: needs the extra `train`

    _show(train_bench.measure(quick=quick), as_json)


@bench.command()
@click.option("--quick", is_flag=True, help="Fewer episodes.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
@data_folder("The folder of the data sets, with crs-lastfm-star in it.", required=True)
def dialogue(quick: bool, as_json: bool, data: Path) -> None:
    """Simulate dialogues on Last.FM* in batches, and one by one in a plain loop."""
    from persona_agent.eval.bench import dialogue as dialogues  # late: needs the extra `recommend`

    _show(dialogues.measure(data, quick=quick), as_json)


@bench.command()
@click.option("--quick", is_flag=True, help="Fewer memories and turns.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
@click.option("--workers", type=click.IntRange(1, 64), default=1, show_default=True)
@click.option("--postgresql", is_flag=True, help="On an embedded PostgreSQL instead of SQLite.")
@click.option(
    "--answer-s",
    type=click.FloatRange(0, min_open=True),
    default=1.0,
    show_default=True,
    help="What the model takes for an answer, on average: 64 users then ask 64 / S times a second.",
)
@click.option("--soak", "minutes", type=float, default=0.0, help="Minutes of load at the end.")
@click.pass_obj
def serve(
    settings: Settings,
    quick: bool,
    as_json: bool,
    workers: int,
    postgresql: bool,
    answer_s: float,
    minutes: float,
) -> None:
    """Talk to a model directly and through the server: what the server adds, and how much it bears."""
    from persona_agent.eval.bench import serve as serve_bench  # late: needs the extra `server`

    size = serve_bench.Size.of(quick=quick)
    figures = serve_bench.measure(
        size,
        workers=workers,
        postgresql=postgresql,
        soak_minutes=minutes,
        embedder=settings.embedder,
        answer_s=answer_s,
    )
    _show(figures, as_json)


@bench.command("serve-faults")
@click.option("--quick", is_flag=True, help="Fewer operations and deaths.")
@click.option("--json", "as_json", is_flag=True, help="Print one flat JSON object.")
def serve_faults(quick: bool, as_json: bool) -> None:
    """Attack the server as somebody else, and kill it under load: what leaks, what is lost."""
    from persona_agent.eval.bench import serve_faults as faults_of_server

    operations, kills = (1_600, 2) if quick else (50_000, 20)
    _show(faults_of_server.measure(operations=operations, kills=kills), as_json)


def _show(figures: Mapping[str, float | None], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(figures))
    else:
        click.echo("\n".join(f"{name:<28} {_shown(value)}" for name, value in figures.items()))


def _shown(value: float | None) -> str:
    return "not measured" if value is None else f"{value:g}"
