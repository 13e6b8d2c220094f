"""The study of adapters: do weights tuned on people predict them better?"""

from __future__ import annotations

import click

from persona_agent.cli.settings import Settings, progress_bars
from persona_agent.eval import movielens


@click.command()
@click.option("--cohort", type=click.IntRange(1), default=40, show_default=True)
@click.option("--people", type=click.IntRange(2), default=24, show_default=True)
@click.option("--own-ratings", type=click.IntRange(1), default=48, show_default=True)
@click.option("--queries", type=click.IntRange(1), default=10, show_default=True)
@click.option("--rate", type=click.FloatRange(0, min_open=True), default=1e-3, show_default=True)
@click.option("--epochs", type=click.IntRange(1), default=1, show_default=True)
@click.option("--seed", type=int, default=0, show_default=True, help="Which people.")
@click.option("--base", default="local", show_default=True, help="A folder, a GGUF file, or local.")
@click.pass_obj
def lora(
    settings: Settings,
    /,
    cohort: int,
    people: int,
    own_ratings: int,
    queries: int,
    rate: float,
    epochs: int,
    seed: int,
    base: str,
) -> None:
    """Predict people's next ratings with and without adapters (MovieLens-100K).

    The model as it is, a cohort's adapter and its learning curve, adapters of the people's own,
    and both; with paired intervals over people.
    """
    from persona_agent.eval import lora as study  # late: needs the extra `train`
    from persona_agent.train.base import Base
    from persona_agent.train.options import TrainOptions

    wanted = study.Settings(
        cohort=cohort,
        people=people,
        own_ratings=own_ratings,
        queries=queries,
        seed=seed,
        options=TrainOptions(rate=rate, epochs=epochs, seed=seed),
    )
    data = movielens.load()
    with progress_bars() as bars:
        tasks = {}

        def tell(stage: str, done: int, due: int) -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=due)
            bars.update(tasks[stage], completed=done, total=due)

        found = study.measure(data, Base.open(base), wanted, tell)
    settings.show(found)
