"""What every recommender promises, whatever it is made of. A new model joins by a line in MODELS."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from persona_agent.errors import InputError, NotFitted
from persona_agent.recommend.amp_cf import AMPCF
from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.evaluate import evaluate
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.kgat import KGAT
from persona_agent.recommend.knn import ItemKNN
from persona_agent.recommend.lightgcn import LightGCN
from persona_agent.recommend.mult_dae import MultDAE
from persona_agent.recommend.mult_vae import MultVAE
from persona_agent.recommend.nested import Nested
from persona_agent.recommend.popular import Popularity
from persona_agent.recommend.port import Recommender
from persona_agent.recommend.rec_vae import RecVAE
from persona_agent.recommend.rp3beta import RP3beta
from persona_agent.recommend.splits import strong

# Of the models that train in loops: enough for a world of sixty people, in a tenth of a second.
SHORT: dict[str, Any] = {"epochs": 30, "batch": 16, "learning_rate": 1e-2}

MODELS: dict[str, Callable[[], Recommender]] = {
    "popularity": Popularity,
    "item_knn": lambda: ItemKNN(neighbours=8, shrinkage=2.0),
    "ease": lambda: EASE(l2=5.0),
    "rp3beta": lambda: RP3beta(neighbours=8),
    "mult_dae": lambda: MultDAE(hidden=16, **SHORT),
    "mult_vae": lambda: MultVAE(hidden=16, latent=8, **SHORT),
    "mult_vae_gaussian": lambda: MultVAE(hidden=16, latent=8, likelihood="gaussian", **SHORT),
    "mult_vae_logistic": lambda: MultVAE(hidden=16, latent=8, likelihood="logistic", **SHORT),
    "rec_vae": lambda: RecVAE(hidden=16, latent=8, **SHORT),
    "lightgcn": lambda: LightGCN(width=8, layers=2, batch=64, learning_rate=0.02, epochs=20),
    "kgat": lambda: KGAT(width=8, layers=(8,), batch=64, learning_rate=0.02, epochs=20),
    "nested": lambda: Nested(personas=3, dimensions=8, **SHORT),
    "nested_graph": lambda: Nested(relation="graph", likelihood="logistic", dimensions=8, **SHORT),
    "amp_cf": lambda: AMPCF(personas=2, width=8, l2=1.0, epochs=30, batch=16),
    "amp_cf_2020": lambda: AMPCF(
        personas=3, width=8, l2=1.0, scoring="2020", keep_people=False, epochs=30, batch=16
    ),
    "amp_cf_sampled": lambda: AMPCF(
        personas=2, width=8, loss="sampled", confident=0.1, undecided=0.1, epochs=10, batch=64
    ),
}
CLOSE = 1e-5  # float32, and matrix products that sum in another order


@pytest.fixture(scope="module", params=MODELS)
def make(request: pytest.FixtureRequest) -> Callable[[], Recommender]:
    return MODELS[request.param]


@pytest.fixture(scope="module")
def model(make: Callable[[], Recommender], world: Interactions, world_graph: Graph) -> Recommender:
    return make().fit(world, world_graph)


@pytest.fixture(scope="module")
def people(world: Interactions) -> list[list[str]]:
    return [*world.histories().lists()[:12], [], ["i05"]]


def test_a_batch_equals_a_map_of_singles(model: Recommender, people: list[list[str]]) -> None:
    scores = model.score(people)
    ranking = model.recommend(people, 5)
    assert scores.shape == (len(people), len(model.items))
    assert scores.dtype == np.float32
    for row, history in enumerate(people):
        np.testing.assert_allclose(model.score([history])[0], scores[row], atol=CLOSE, rtol=CLOSE)
        alone = model.recommend([history], 5)
        np.testing.assert_allclose(alone.scores[0], ranking.scores[row], atol=CLOSE, rtol=CLOSE)


def test_an_empty_batch_gives_empty_results(model: Recommender) -> None:
    assert model.recommend([], 3).lists() == []
    assert model.score([]).shape == (0, len(model.items))


def test_a_ranking_is_the_order_of_the_scores(model: Recommender, people: list[list[str]]) -> None:
    ranking = model.recommend(people, 7)
    scores = model.score(people)
    for row, history in enumerate(people):
        unseen = [one for one in model.items if one not in history]
        by_score = sorted(scores[row, model.items.positions(unseen)], reverse=True)
        np.testing.assert_allclose(ranking.scores[row], by_score[:7], atol=CLOSE, rtol=CLOSE)
        assert (np.diff(ranking.scores[row]) <= 0).all()


def test_what_somebody_has_seen_never_appears_unless_asked_for(
    model: Recommender, people: list[list[str]]
) -> None:
    everything = len(model.items)
    for history, row in zip(people, model.recommend(people, everything).lists(), strict=True):
        assert sorted(row + history) == sorted(model.items)
    for row in model.recommend(people, everything, seen=True).lists():
        assert sorted(row) == sorted(model.items)


def test_only_allowed_items_appear_and_no_denied_ones(
    model: Recommender, people: list[list[str]]
) -> None:
    allow, deny = ["i01", "i02", "i03", "i04"], ["i02", "i20"]
    for history, row in zip(
        people, model.recommend(people, 10, allow=allow, deny=deny).lists(), strict=True
    ):
        assert set(row) == {"i01", "i03", "i04"} - set(history)
    assert model.recommend(people, 10, allow=[]).lists() == [[] for _ in people]


def test_filters_may_differ_by_row(model: Recommender) -> None:
    allow = Histories.of([["i01", "i02"], ["i03"]], model.items)
    assert [set(row) for row in model.recommend([[], []], 9, allow=allow).lists()] == [
        {"i01", "i02"},
        {"i03"},
    ]
    denied = model.recommend([[], ["i00"]], 99, deny=allow).lists()
    assert [set(model.items) - set(row) for row in denied] == [{"i01", "i02"}, {"i00", "i03"}]
    with pytest.raises(ValueError, match="2 rows for 1 histories"):
        model.recommend([[]], 9, allow=allow)


def test_k_may_be_larger_than_the_catalogue_but_not_below_one(model: Recommender) -> None:
    ranking = model.recommend([["i00", "i01"]], 10_000)
    assert ranking.positions.shape == (1, len(model.items))
    assert ranking.positions[0, -2:].tolist() == [-1, -1]
    assert ranking.ids[0, -1] == ""
    with pytest.raises(ValueError, match="k is 0"):
        model.recommend([[]], 0)


def test_the_same_data_and_seed_give_the_same_scores(
    make: Callable[[], Recommender],
    world: Interactions,
    world_graph: Graph,
    people: list[list[str]],
) -> None:
    first, second = (make().fit(world, world_graph).score(people) for _ in range(2))
    np.testing.assert_array_equal(first, second)


def test_a_saved_model_scores_as_before(
    model: Recommender, people: list[list[str]], tmp_path: Path
) -> None:
    model.save(tmp_path / "model")
    again = type(model).load(tmp_path / "model")
    assert again.items == model.items
    # What is read lies elsewhere in memory, by which some processors choose how they sum.
    np.testing.assert_allclose(again.score(people), model.score(people), atol=CLOSE, rtol=CLOSE)
    assert again.recommend(people, 5).lists() == model.recommend(people, 5).lists()
    assert {path.suffix for path in (tmp_path / "model").iterdir()} == {".json", ".safetensors"}


def test_a_damaged_or_foreign_folder_does_not_load(model: Recommender, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no saved recommender"):
        type(model).load(tmp_path)
    model.save(tmp_path)
    arrays = tmp_path / "model.safetensors"
    arrays.write_bytes(arrays.read_bytes()[:-1] + b"\xff")
    with pytest.raises(InputError, match=r"is not what model\.json says"):
        type(model).load(tmp_path)


def test_permuting_people_permutes_their_results_and_nothing_else(
    model: Recommender, people: list[list[str]]
) -> None:
    order = np.random.default_rng(1).permutation(len(people))
    shuffled = [people[row][::-1] for row in order]
    np.testing.assert_allclose(
        model.score(shuffled), model.score(people)[order], atol=CLOSE, rtol=CLOSE
    )


def test_an_empty_history_falls_back_to_what_is_popular(
    model: Recommender, world: Interactions
) -> None:
    counts = np.bincount(world.item, minlength=len(world.items))
    (row,) = model.recommend([[]], 3).positions
    assert sorted(counts[row], reverse=True) == sorted(counts, reverse=True)[:3]
    assert [one.kind for one in model.explain([], "i00").reasons] == ["popularity"]


def test_an_unknown_item_is_an_error_that_names_it(model: Recommender) -> None:
    for wrong in (
        lambda: model.recommend([["i00", "nope"]], 3),
        lambda: model.score([["i00"]], ["nope"]),
        lambda: model.recommend([[]], 3, deny=["nope"]),
        lambda: model.explain(["i00"], "nope"),
    ):
        with pytest.raises(InputError, match=r"unknown item ids: \['nope'\]"):
            wrong()


def test_one_history_given_for_many_is_an_error(model: Recommender) -> None:
    with pytest.raises(TypeError, match="a list of lists"):
        model.recommend(["i00", "i01"], 3)  # type: ignore[list-item]  # what is tested


def test_histories_over_other_items_are_matched_by_id(model: Recommender) -> None:
    other = Histories.of([["i07", "i03"]], IdMap(["i07", "i03"], "item"))
    np.testing.assert_array_equal(model.score(other), model.score([["i03", "i07"]]))


def test_chosen_items_are_scored_in_the_order_asked(model: Recommender) -> None:
    everything = model.score([["i01"]])
    at = model.items.positions(["i09", "i02"])
    np.testing.assert_array_equal(model.score([["i01"]], ["i09", "i02"]), everything[:, at])


def test_an_explanation_has_the_score_and_what_it_rests_on(
    model: Recommender, people: list[list[str]]
) -> None:
    for history in people:
        why = model.explain(history, "i20", top=None)
        assert why.score == pytest.approx(float(model.score([history], ["i20"])[0, 0]), abs=1e-4)
        if why.additive:
            total = sum(one.weight for one in why.reasons) + why.rest
            assert total == pytest.approx(why.score, abs=1e-4)
        own = {one for reason in why.reasons if reason.kind == "item" for one in reason.ids}
        assert own <= set(history)
        strengths = [abs(one.weight) for one in why.reasons]
        assert strengths == sorted(strengths, reverse=True)
        assert why.sentence().endswith(".")


def test_before_it_has_learned_it_says_so(make: Callable[[], Recommender]) -> None:
    with pytest.raises(NotFitted, match="call fit first"):
        make().recommend([[]], 1)


def test_it_does_better_than_chance_on_people_it_never_saw(
    make: Callable[[], Recommender], world: Interactions, world_graph: Graph
) -> None:
    split = strong(world, seed=3, valid=0.1, test=0.3)
    model = make().fit(split.train, world_graph)
    found = evaluate(model, split.test, ks=(10,)).mean("recall@10")
    assert found > 1.2 * 10 / len(split.train.items)
