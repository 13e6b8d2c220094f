"""The study of adapters, and the bench: a tiny model and made-up people, end to end."""

from __future__ import annotations

import json

import numpy as np
import pytest

from persona_agent.errors import NotEnoughData
from persona_agent.eval import lora
from persona_agent.eval.bench import train as bench
from persona_agent.eval.movielens import Film, MovieLens, Rating
from persona_agent.train.base import Base
from persona_agent.train.options import TrainOptions

OPTIONS = TrainOptions(rate=0.05, epochs=3, window=6, targets=("v_proj", "up_proj", "down_proj"))


@pytest.fixture
def data() -> MovieLens:
    """Sixteen people who give four stars to everything, to be learned by anybody."""
    films = {str(i): Film(str(i), f"Film {i}", "1990", ("Drama",)) for i in range(30)}
    ratings = {
        str(user): tuple(Rating(str(user), str(film), 4, 1000 * user + film) for film in range(20))
        for user in range(16)
    }
    return MovieLens(films, ratings)


def test_what_can_be_learned_is_and_the_report_says_so(base: Base, data: MovieLens) -> None:
    settings = lora.Settings(
        cohort=8, people=5, cohort_ratings=12, own_ratings=12, queries=3, options=OPTIONS
    )
    told: list[str] = []
    found = lora.measure(data, base, settings, lambda stage, done, due: told.append(stage))
    assert list(found.arms) == [lora.PRIOR, lora.BASE, lora.COHORT, lora.OWN, lora.BOTH]
    assert set(told) == set(found.arms) - {lora.PRIOR}
    for name in (lora.COHORT, lora.OWN, lora.BOTH):
        assert found.nats[name].interval.high < 0
        assert found.worse[name] == 0
    assert found.arms[lora.PRIOR].nats == pytest.approx(-np.log(13 / 17))
    assert list(found.curve) == [0, 64, 144, 288]
    assert found.curve[0] == found.arms[lora.BASE].nats
    assert found.curve[288] == found.arms[lora.COHORT].nats
    assert json.dumps(found.to_json())
    assert "made worse" in str(found)
    with pytest.raises(NotEnoughData, match="16 people have"):
        lora.measure(data, base, lora.Settings(own_ratings=5), lambda stage, done, due: None)


@pytest.mark.real("data")
def test_the_bench_measures_both_loops(base: Base) -> None:
    figures = bench.measure(quick=True, base=base)
    assert figures["examples"] == 32
    assert all(value is not None and value > 0 for value in figures.values())
