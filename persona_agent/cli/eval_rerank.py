"""The study of reordering: does a model that knows the persona improve a recommender's lists?"""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.table import Table

from persona_agent.cli.settings import Settings, progress_bars
from persona_agent.eval import movielens
from persona_agent.llm.metered import metered

if TYPE_CHECKING:
    from persona_agent.eval.rerank import Report


@click.command()
@click.option("--users", type=click.IntRange(2), default=40, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Which users.")
@click.option(
    "--recommender",
    type=click.Choice(["item-knn", "rp3beta", "ease", "mult-vae"]),
    default="item-knn",
    show_default=True,
    help="Whose candidates are reordered.",
)
@click.option("--candidates", type=click.IntRange(10, 50), default=20, show_default=True)
@click.option("--memories", type=click.IntRange(0), default=8, show_default=True)
@click.option(
    "--persona",
    type=click.Choice(["mined", "aligned"]),
    default="mined",
    show_default=True,
    help="Lines of the user's own statistics, or what has passed the gate.",
)
@click.option(
    "--calibration",
    type=click.Choice(["none", "contextual", "domain"]),
    default="none",
    show_default=True,
    help="What a candidate's score is divided by; both double the requests.",
)
@click.option(
    "--way",
    type=click.Choice(["scored", "listed"]),
    help="Each candidate on its own, or lists in random orders.  [default: what the model can]",
)
@click.pass_obj
def rerank(settings: Settings, /, **given: Any) -> None:  # Any: the study's settings, checked there
    """Let the model reorder a recommender's films for real people (MovieLens-100K).

    NDCG@10 of what the people liked next, by the full ranking: in EASE's order, the recommender's,
    the model's, and both fused; with paired intervals over people, cost and latency.
    """
    from persona_agent.eval import rerank as study  # late: needs the extra `recommend`

    wanted = study.Settings(**given)
    data = movielens.load()
    with closing(metered(settings.model())) as llm, progress_bars() as bars:
        tasks = {}

        def tell(stage: str, done: int, due: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=due)
            bars.update(tasks[stage], completed=done, total=due)

        found = study.measure(data, llm, wanted, tell)
    if settings.as_json:
        settings.show(found)
    else:
        _print(found, settings.llm)


def _print(found: Report, model: str) -> None:
    console = Console()
    if not console.is_terminal:
        console.width = 120
    table = Table(title=f"NDCG@10 of {found.users} people, {found.settings.recommender}, {model}")
    table.add_column("order")
    table.add_column("NDCG@10", justify="right")
    for name, value in found.ndcg.items():
        table.add_row(name, f"{value:.4f}")
    console.print(table)
    differences = Table(title="Paired differences: mean [95%], p after Holm, detectable effect")
    differences.add_column("new - old")
    differences.add_column("difference")
    for name, one in found.contrasts.items():
        differences.add_row(name, str(one))
    console.print(differences)
    usage = found.spent.usage
    console.print(
        f"{found.found:.0%} of what was to be found is among the candidates; the model's order is "
        f"worse than the recommender's for {found.worse:.0%} of the people.\n"
        f"{usage.requests} requests ({usage.requests / found.users:.0f} a person), "
        f"{usage.prompt_tokens} prompt tokens, {usage.cached_tokens} of them cached; "
        f"{found.failed} failed; {found.ms_per_request:.0f} ms a request in one batch, "
        f"{found.alone_ms:.0f} ms a person alone with nothing cached (median).",
        highlight=False,
    )
