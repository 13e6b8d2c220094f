"""The laws of AMP-CF: what its scores are, what folding in finds, what its explanations are worth."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from persona_agent.errors import NotEnoughData
from persona_agent.recommend.amp_cf import AMPCF, fingerprints
from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.faithful import faithfulness
from persona_agent.recommend.fold_in import gather
from persona_agent.recommend.negatives import candidates
from persona_agent.recommend.neural import dense
from persona_agent.recommend.persona_scores import (
    Scoring,
    attention_entropy,
    score_personas,
    start_scoring,
)
from persona_agent.recommend.personas import collapse, persona_cards, taste_distribution
from persona_agent.recommend.splits import per_user
from persona_agent.recommend.training import Parameters, Tensor

SMALL = {"width": 8, "l2": 1.0, "epochs": 60, "batch": 16}


def arrays(seed: int, scoring: str, items: int = 9, width: int = 5) -> Parameters:
    """Return parameters of a model that was never trained."""
    torch.manual_seed(seed)
    found = {"items": torch.randn(items, width)}
    if scoring == "2020":
        found |= start_scoring("2020", items, width, 0.5)
        found["bias"] = torch.randn(items)
    return found


def personas(seed: int, count: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(4, count, 5, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def planted() -> Interactions:
    """Return people with two of four tastes each: six of the ten items of either."""
    rng = np.random.default_rng(0)
    users, items = [], []
    for person in range(120):
        for taste in rng.choice(4, 2, replace=False):
            own = 10 * taste + rng.choice(10, 6, replace=False)
            users += [f"u{person:03}"] * 6
            items += [f"{'abcd'[taste]}{item % 10}" for item in own]
    return Interactions.of(users, items)


@pytest.fixture(scope="module")
def tastes(planted: Interactions) -> AMPCF:
    return AMPCF(personas=2, width=8, l2=1.0, epochs=100, batch=40).fit(planted)


@pytest.fixture(scope="module")
def model(world: Interactions) -> AMPCF:
    return AMPCF(personas=2, **SMALL).fit(world)


@given(st.integers(0, 99), st.integers(1, 6), st.floats(0, 30))
@settings(max_examples=60, deadline=None)
def test_a_score_of_2023_is_a_maximum_over_personas_less_at_most_log_k(
    seed: int, count: int, scale: float
) -> None:
    found = score_personas(arrays(seed, "2023"), personas(seed, count, scale))
    best = found.each.amax(dim=1)
    slack = 1e-4 * (1 + scale)
    assert (found.scores <= best + slack).all()
    assert (found.scores >= best - math.log(count) - slack).all()
    weights = found.each.softmax(dim=1)
    torch.testing.assert_close(found.scores, (weights * found.each).sum(dim=1))


@given(st.integers(0, 99), st.integers(1, 6), st.sampled_from(["2023", "2020"]))
@settings(max_examples=60, deadline=None)
def test_attention_sums_to_one_and_its_entropy_is_between_0_and_log_k(
    seed: int, count: int, scoring: str
) -> None:
    found = score_personas(arrays(seed, scoring), personas(seed, count))
    torch.testing.assert_close(found.attention.sum(dim=1), torch.ones(4, 9))
    unsure = attention_entropy(found.attention)
    assert (unsure >= -1e-6).all()
    assert (unsure <= math.log(count) + 1e-5).all()


@given(st.permutations(range(5)), st.integers(0, 99), st.sampled_from(["2023", "2020"]))
@settings(max_examples=60, deadline=None)
def test_permuting_personas_changes_no_score(order: list[int], seed: int, scoring: str) -> None:
    parameters, people = arrays(seed, scoring), personas(seed, 5)
    plain, moved = (score_personas(parameters, one) for one in (people, people[:, order]))
    torch.testing.assert_close(moved.scores, plain.scores)
    torch.testing.assert_close(moved.attention, plain.attention[:, order])


@given(st.integers(0, 99))
@settings(max_examples=30, deadline=None)
def test_one_persona_scores_as_plain_factorisation_by_either_scoring(seed: int) -> None:
    people = personas(seed, 1)
    for scoring in ("2023", "2020"):
        parameters = arrays(seed, scoring)
        plain = people[:, 0] @ parameters["items"].T + parameters.get("bias", 0.0)
        torch.testing.assert_close(score_personas(parameters, people).scores, plain)


@pytest.mark.parametrize("scoring", ["2023", "2020"])
def test_scores_of_chosen_columns_are_those_of_the_catalogue(scoring: str) -> None:
    parameters, people = arrays(1, scoring), personas(1, 3)
    columns = torch.tensor([[0, 8], [3, 3], [7, 2], [1, 4]])
    every = score_personas(parameters, people)
    few = score_personas(parameters, people, columns)
    torch.testing.assert_close(few.scores, every.scores.gather(1, columns))
    at = columns[:, None].expand(-1, 3, -1)
    torch.testing.assert_close(few.attention, every.attention.gather(2, at))


def test_at_temperature_one_no_persona_of_2020_decides_alone() -> None:
    parameters = arrays(0, "2020") | {"log_temperature": torch.tensor(0.0)}
    weights = score_personas(parameters, personas(0, 4, 100.0)).attention
    assert weights.max() <= math.e**2 / (math.e**2 + 3) + 1e-6
    sharp = parameters | {"log_temperature": torch.tensor(-4.0)}
    assert score_personas(sharp, personas(0, 4, 100.0)).attention.max() > 0.99


def test_one_persona_trains_as_plain_factorisation(world: Interactions) -> None:
    model = AMPCF(personas=1, width=4, epochs=3, every=3, batch=999, l2=0.5).fit(world)
    torch.manual_seed(model.seed)
    plain = AMPCF(personas=1, width=4, epochs=3, every=3, batch=999, l2=0.5)
    trained = train_factorisation(plain, world, epochs=3)
    np.testing.assert_allclose(model.item_vectors(), trained, atol=1e-5)


def train_factorisation(model: AMPCF, world: Interactions, epochs: int) -> np.ndarray:
    """Return item vectors after full-batch steps of a softmax over u . v, written out plainly."""
    data = per_user(world, seed=model.seed, ratios=(9, 1, 0)).train
    start = model.start(data, None)
    people, items = start["people"][:, 0].detach(), start["items"].detach()
    people.requires_grad_(), items.requires_grad_()
    optimiser = torch.optim.Adam([people, items], lr=model.learning_rate)
    chosen = dense(data.histories(), "cpu")
    for _ in range(epochs):
        fit = -(chosen * (people @ items.T).log_softmax(dim=1)).sum()
        loss = (fit + 0.5 * model.l2 * (people.square().sum() + items.square().sum())) / len(people)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return items.detach().numpy()


def test_the_gradient_by_hand_is_that_of_the_loss(world: Interactions) -> None:
    model = AMPCF(personas=3, width=5)
    parameters = {name: one.double() for name, one in arrays(2, "2023", 30).items()}
    people = personas(2, 3).double().requires_grad_()
    chosen = dense(world.histories().take(slice(0, 4)), "cpu").double()
    (expected,) = torch.autograd.grad(model.misfit(parameters, people, chosen).sum(), people)
    torch.testing.assert_close(model.slope(parameters, people.detach(), chosen), expected)


def test_folding_in_finds_vectors_that_fit_as_well_as_many_steps_of_another_optimiser(
    model: AMPCF, world: Interactions
) -> None:
    kept = {name: one for name, one in model._known().arrays.items() if name != "people"}
    stranger = dataclasses.replace(model, keep_people=False, personas=1)
    chosen = dense(world.histories(), "cpu")
    found = stranger._fold_in(kept, world.histories())
    slow = torch.zeros(len(chosen), 1, 8, requires_grad=True)
    optimiser = torch.optim.Adam([slow], lr=0.03)
    for _ in range(500):
        optimiser.zero_grad()
        loss = stranger.misfit(kept, slow, chosen).sum()
        loss.backward()
        optimiser.step()
    excess = stranger.misfit(kept, found, chosen) - stranger.misfit(kept, slow.detach(), chosen)
    assert excess.max() < 0.05  # nats of the whole history; 1 persona: there is one optimum


def test_a_known_history_gets_the_vectors_of_training_and_a_changed_one_is_folded_in(
    world: Interactions,
) -> None:
    split = per_user(world, seed=1)
    model = AMPCF(personas=2, **SMALL).fit(split.train, valid=split.valid)
    arrays, histories = model._known().arrays, split.train.histories()
    row = np.searchsorted(arrays["prints"].numpy(), fingerprints(histories)[7])
    table = arrays["people"][row].numpy()
    np.testing.assert_array_equal(model.person_vectors(histories)[7], table)
    shorter = histories.lists()[7][1:]
    changed = model.person_vectors([shorter, histories.lists()[7]])
    assert not np.allclose(changed[0], table, atol=1e-2)
    np.testing.assert_array_equal(changed[1], table)


def test_a_fit_that_holds_out_by_itself_knows_the_whole_histories_it_was_given(
    world: Interactions,
) -> None:
    model = AMPCF(personas=2, **SMALL).fit(world)
    arrays, histories = model._known().arrays, world.histories()
    prints = fingerprints(histories)
    np.testing.assert_array_equal(arrays["prints"].numpy(), np.sort(prints))
    learned = per_user(world, seed=model.seed, ratios=(9, 1, 0)).train.histories()
    partly = np.flatnonzero(fingerprints(learned) != prints)
    assert len(partly)  # something of these was held out
    table = arrays["people"][torch.searchsorted(arrays["prints"], torch.from_numpy(prints))]
    np.testing.assert_array_equal(model.person_vectors(histories), table.numpy())
    folded = model._fold_in(arrays, histories.take(partly))
    torch.testing.assert_close(table[partly], folded, rtol=1e-4, atol=1e-4)


def test_without_people_nothing_of_them_is_kept(world: Interactions, tmp_path: Path) -> None:
    model = AMPCF(personas=2, keep_people=False, **SMALL).fit(world)
    assert {"people", "prints", "owners", "rows"}.isdisjoint(model._known().arrays)
    model.save(tmp_path)
    people = world.histories().lists()[:5]
    np.testing.assert_array_equal(AMPCF.load(tmp_path).score(people), model.score(people))


def test_fingerprints_tell_sets_apart_and_see_no_order(world: Interactions) -> None:
    histories = world.histories()
    distinct = {frozenset(one) for one in histories.lists()}
    assert len(set(fingerprints(histories).tolist())) == len(distinct)
    pair = Histories.of([["i03", "i01"], ["i01", "i03"], []], world.items)
    one, other, empty = fingerprints(pair).tolist()
    assert one == other != empty == 0


def test_groups_of_a_history_share_out_every_item_and_split_two_tastes() -> None:
    vectors = torch.tensor([[1.0, 0.1], [0.9, 0.0], [0.0, 1.0], [0.1, 0.9]])
    chosen = torch.tensor([[1.0, 1, 1, 0], [0, 0, 1, 0]])
    shares = gather(vectors, chosen, 2)
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(2, 4))
    assert shares[0].argmax(dim=0).tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    torch.testing.assert_close(shares[1], torch.full((2, 4), 0.5))  # one item cannot be split


def test_sampled_candidates_are_one_chosen_item_and_different_others(world: Interactions) -> None:
    torch.manual_seed(0)
    taken = world.matrix.toarray()
    seen = []
    for users, columns in candidates(world, 50, 6, "cpu"):
        assert columns.shape == (len(users), 7)
        positive, negative = columns[:, 0].numpy(), columns[:, 1:].numpy()
        assert (taken[users, positive] == 1).all()
        assert (taken[users[:, None], negative] == 0).all()
        assert all(len(set(row)) == 6 for row in negative.tolist())
        seen += users.tolist()
    assert sorted(seen) == world.user.tolist()
    with pytest.raises(NotEnoughData, match="negatives is 25"):
        next(candidates(world, 50, 25, "cpu"))


def test_the_cards_of_people_with_two_tastes_part_them(
    tastes: AMPCF, planted: Interactions
) -> None:
    cards = [persona_cards(tastes, one, own=None) for one in planted.histories().lists()]
    pure = [len({item[0] for item in card.ids}) == 1 for two in cards for card in two]
    assert np.mean(pure) > 0.9
    shares = np.array([[card.share for card in two] for two in cards])
    assert np.median(shares[:, 0]) < 0.6
    found = collapse(tastes.person_vectors(planted.histories()), shares)
    assert found.one_sided < 0.1
    assert found.cosine < 0.5


def test_an_explanation_names_a_persona_and_without_a_history_popularity(model: AMPCF) -> None:
    why = model.explain(["i00", "i02", "i04", "i01"], "i06")
    assert [one.kind for one in why.reasons] == ["persona", "persona"]
    assert sum(one.weight for one in why.reasons) == pytest.approx(1, abs=1e-5)
    assert set(why.reasons[0].ids) <= {"i00", "i02", "i04", "i01"}
    assert model.explain([], "i06").reasons[0].kind == "popularity"


@pytest.mark.parametrize("scoring", ["2023", "2020"])
def test_somebody_without_a_history_has_no_personas(world: Interactions, scoring: Scoring) -> None:
    model = AMPCF(personas=3, width=4, scoring=scoring, epochs=2, every=2).fit(world)
    np.testing.assert_array_equal(model.person_vectors([[], ["i00"]])[0], 0)
    np.testing.assert_allclose(model.attention([[], ["i00"]])[0], 1 / 3, rtol=1e-6)
    assert model.attention([]).shape == (0, 3, 30)
    assert model.person_vectors([]).shape == (0, 3, 4)


def test_what_an_explanation_names_matters_more_than_what_it_does_not(
    tastes: AMPCF, planted: Interactions
) -> None:
    found = faithfulness(tastes, planted.histories(), seed=0, own=3)
    assert len(found.named) == 120
    assert found.named.mean() > 2 * found.random.mean()
    assert found.share > 0.8


def test_lists_have_a_taste_distribution(model: AMPCF, world: Interactions) -> None:
    people = world.histories()
    found = taste_distribution(model, people, model.recommend(people, 5))
    np.testing.assert_allclose(found.history.sum(axis=1), 1)
    np.testing.assert_allclose(found.listed.sum(axis=1), 1)
    assert (found.distance >= 0).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"personas": 0}, "personas is 0"),
        ({"l2": -1.0}, "l2 is -1"),
        ({"scoring": "2021"}, "scoring is '2021'"),
        ({"loss": "bpr"}, "loss is 'bpr'"),
        ({"temperature": 0.0}, "temperature is 0"),
    ],
)
def test_wrong_settings_are_refused_by_name(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AMPCF(**wrong)  # type: ignore[arg-type]  # what is tested
