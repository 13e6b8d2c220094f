"""The study of reordering measures what it says: nothing later is shown, every order by one rule."""

from __future__ import annotations

import json
import random

import click
import numpy as np
import pytest

from persona_agent.cli import main
from persona_agent.cli.eval_rerank import rerank
from persona_agent.eval import movielens
from persona_agent.eval import rerank as study
from persona_agent.eval.orders import CUT, by_chance, in_best_order, ndcg_of
from persona_agent.llm import FakeLLM
from persona_agent.recommend.data import Histories
from persona_agent.recommend.ids import IdMap
from persona_agent.types import ModelRequest

ITEMS = IdMap([f"i{n:02}" for n in range(20)])
WANTED = Histories.of([["i00", "i01"], ["i05"]], ITEMS)


def quiet(stage: str, done: int, due: int) -> None:
    """Tells nobody."""


def test_ndcg_of_orders_by_hand() -> None:
    lists = [["i07", "i00"], ["i05", "i06"]]
    first = (1 / np.log2(3)) / (1 + 1 / np.log2(3))
    np.testing.assert_allclose(ndcg_of(lists, WANTED), [first, 1.0])
    assert in_best_order([["i07", "i01", "i00"], ["i09"]], WANTED) == [
        ["i01", "i00", "i07"],
        ["i09"],
    ]
    np.testing.assert_array_equal(ndcg_of([[], ["i09"]], WANTED), [0.0, 0.0])


def test_chance_lies_between_the_worst_and_the_best_order() -> None:
    others = [f"i{n:02}" for n in range(10, 20)]
    lists = [["i00", "i01", *others], [*others, "i05"]]
    chance = by_chance(lists, WANTED, 0)
    ceiling = ndcg_of(in_best_order(lists, WANTED), WANTED)
    assert (chance < ceiling).all()
    assert (chance > 0).all()
    np.testing.assert_array_equal(chance, by_chance(lists, WANTED, 0))


def test_settings_that_make_no_study_are_refused() -> None:
    with pytest.raises(ValueError, match="no recommender 'tea-leaves'; there are item-knn"):
        study.Settings(recommender="tea-leaves")
    with pytest.raises(ValueError, match="users is 1"):
        study.Settings(users=1)


def test_the_command_offers_the_recommenders_there_are() -> None:
    (option,) = [one for one in rerank.params if one.name == "recommender"]
    assert isinstance(option.type, click.Choice)
    assert list(option.type.choices) == list(study.RECOMMENDERS)


@pytest.fixture(scope="module")
def data() -> movielens.MovieLens:
    return movielens.load()


def asked(request: ModelRequest) -> str:
    return request.messages[-1].content.rsplit("Film: ", 1)[1].split("\n")[0]


def oracle(data: movielens.MovieLens) -> FakeLLM:
    """A model that finds five stars likelier the better a film is rated by all."""
    stars: dict[str, list[int]] = {}
    for ratings in data.ratings.values():
        for one in ratings:
            stars.setdefault(data.films[one.film].text, []).append(one.value)
    means = {text: float(np.mean(values)) for text, values in stars.items() if len(values) > 9}
    return FakeLLM(lambda request: [0.0, 0.0, 0.0, 0.0, means.get(asked(request), 0.0)])


@pytest.mark.real("data")
def test_the_study_compares_all_orders_of_the_same_people(data: movielens.MovieLens) -> None:
    settings = study.Settings(users=6, candidates=15)
    llm = oracle(data)
    found = study.measure(data, llm, settings, quiet)
    assert found.users == 6
    assert set(found.ndcg) == {
        study.EASE_ORDER,
        study.RECOMMENDED,
        study.RERANKED,
        study.FUSED,
        study.CHANCE,
        study.CEILING,
    }
    assert all(
        0 <= one <= found.ndcg[study.CEILING]
        for name, one in found.ndcg.items()
        if name != study.EASE_ORDER
    )
    for new, old in study.COMPARED:
        mean = found.contrasts[f"{new} - {old}"].interval.mean
        assert mean == pytest.approx(found.ndcg[new] - found.ndcg[old])
    assert found.ways == {"scored": 6}
    assert found.failed == 0
    assert found.spent.usage.requests == 6 * 15
    assert len(llm.requests) == (6 + study.ALONE) * 15
    assert found.aligning.usage.requests == 0
    assert found.alone_ms > 0
    assert json.dumps(found.to_json())


@pytest.mark.real("data")
@pytest.mark.parametrize("persona", ["mined", "aligned"])
def test_no_prompt_holds_what_was_to_be_found_but_as_a_candidate(
    data: movielens.MovieLens, persona: study.KnownBy
) -> None:
    rng = random.Random(0)
    llm = FakeLLM(lambda request: [rng.random() for _ in request.choices])
    settings = study.Settings(users=3, candidates=20, persona=persona)
    study.measure(data, llm, settings, quiet)
    assert len(llm.requests) >= 2 * 3 * 20
    for request in llm.requests:
        text = "\n".join(message.content for message in request.messages)
        shown = [line for line in text.splitlines() if line.startswith("Film: ")]
        assert text.rstrip().endswith("Rating:")
        assert shown.count(f"Film: {asked(request)}") == 1  # the candidate is no memory


@pytest.mark.real("data")
def test_the_past_ends_before_what_is_to_be_found(data: movielens.MovieLens) -> None:
    world = study.people(data, study.Settings(users=20))
    for past, wanted, rated, liked in zip(
        world.pasts,
        world.holdout.wanted.lists(),
        world.rated.lists(),
        world.holdout.histories.lists(),
        strict=True,
    ):
        assert not {one.item for one in past} & set(wanted)
        assert {one.item for one in past} >= set(rated) >= set(liked)
        assert len(wanted) >= study.LEAST_WANTED
        assert sum(int(one.outcome or 0) >= 4 for one in past) >= len(liked)


@pytest.mark.real("data")
@pytest.mark.real("model")
def test_the_command_prints_the_table_and_its_cost(capsys: pytest.CaptureFixture[str]) -> None:
    main(["eval", "rerank", "--users", "2", "--candidates", "10", "--memories", "2"])
    shown = capsys.readouterr().out
    assert "EASE order" in shown
    assert "re-ranked by the model - recommender order" in shown
    assert "20 requests (10 a person)" in shown
    assert f"NDCG@{CUT} of 2 people" in shown
