"""The autoencoders' laws: likelihoods, divergences, priors, noise, and how they are trained."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from persona_agent.errors import BackendError, Diverged, NotFitted
from persona_agent.recommend.data import Histories, Interactions
from persona_agent.recommend.evaluate import evaluate
from persona_agent.recommend.latent import divergence, draw, log_density
from persona_agent.recommend.layers import linear, read, reader
from persona_agent.recommend.likelihoods import (
    Likelihood,
    gaussian,
    knowing_nothing,
    likelihood,
    logistic,
    multinomial,
)
from persona_agent.recommend.mult_dae import MultDAE
from persona_agent.recommend.mult_vae import MultVAE
from persona_agent.recommend.neural import Neural, dense
from persona_agent.recommend.rec_vae import OLD, STANDARD, WIDE, RecVAE, log_prior
from persona_agent.recommend.splits import per_user
from persona_agent.recommend.training import Epoch

torch = pytest.importorskip("torch")

SMALL: dict[str, Callable[..., Neural]] = {
    "mult_dae": lambda **more: MultDAE(**{"hidden": 16, **SHORT, **more}),
    "mult_vae": lambda **more: MultVAE(**{"hidden": 16, "latent": 8, **SHORT, **more}),
    "rec_vae": lambda **more: RecVAE(**{"hidden": 16, "latent": 8, **SHORT, **more}),
}
SHORT = {"epochs": 6, "every": 2, "patience": 2, "batch": 32, "learning_rate": 1e-2}


@pytest.fixture(params=SMALL)
def make(request: pytest.FixtureRequest) -> Callable[..., Neural]:
    return SMALL[request.param]


def table(*rows: list[float]) -> object:
    return torch.tensor(rows, dtype=torch.float64)


# -- likelihoods


def test_likelihoods_are_their_closed_forms() -> None:
    scores, chosen = table([0.0, math.log(3)], [1.0, -2.0]), table([0.0, 1.0], [1.0, 0.0])
    by_hand = (-math.log(3 / 4) - math.log(1 / (1 + math.exp(-3)))) / 2
    assert float(multinomial(scores, chosen)) == pytest.approx(by_hand)
    yes = [(1 + math.exp(-one)) ** -1 for one in (0.0, math.log(3), 1.0, -2.0)]
    by_hand = -(math.log(1 - yes[0]) + math.log(yes[1]) + math.log(yes[2]) + math.log(1 - yes[3]))
    assert float(logistic(scores, chosen)) == pytest.approx(by_hand / 2)
    by_hand = 0.5 * (0 + 7 * (math.log(3) - 1) ** 2 + 0 + 4) / 2
    assert float(gaussian(scores, chosen, weight=7)) == pytest.approx(by_hand)
    assert float(likelihood("gaussian", 7)(scores, chosen)) == pytest.approx(by_hand)


def test_the_multinomial_alone_does_not_care_for_a_constant_added_to_all_scores() -> None:
    scores, chosen = table([0.3, -1.0, 2.0]), table([1.0, 0.0, 1.0])
    moved = scores + 5.0
    assert float(multinomial(moved, chosen)) == pytest.approx(float(multinomial(scores, chosen)))
    for other in (logistic, gaussian):
        assert float(other(moved, chosen)) != pytest.approx(float(other(scores, chosen)))


@pytest.mark.parametrize("name", ["multinomial", "gaussian", "logistic"])
def test_scores_that_know_nothing_are_the_likeliest_that_are_the_same_for_all(
    name: Likelihood, world: Interactions
) -> None:
    chosen = torch.from_numpy(world.matrix.toarray()).double()
    scores = knowing_nothing(name, chosen.mean(dim=0), weight=3.0).requires_grad_()
    likelihood(name, 3.0)(scores.expand(chosen.shape), chosen).backward()
    torch.testing.assert_close(scores.grad, torch.zeros_like(scores), atol=1e-9, rtol=0)


def test_before_its_first_step_a_model_ranks_by_what_is_popular(
    make: Callable[..., Neural], world: Interactions
) -> None:
    counts = np.bincount(world.item, minlength=len(world.items))
    bias = make().start(world, None)["items.bias"].detach().numpy()
    assert (np.diff(bias[np.argsort(counts, kind="stable")]) >= 0).all()


def test_unknown_likelihoods_and_weights_without_sense_are_errors() -> None:
    with pytest.raises(ValueError, match="likelihood is 'poisson'; it must be one of multinomial"):
        MultVAE(likelihood="poisson")  # type: ignore[arg-type]  # what is tested
    with pytest.raises(ValueError, match="weight is 0; it must be above 0"):
        MultDAE(likelihood="gaussian", weight=0)


@pytest.mark.parametrize("name", ["multinomial", "gaussian", "logistic"])
@pytest.mark.parametrize("kind", [MultDAE, MultVAE])
def test_every_likelihood_trains(
    kind: type[MultDAE | MultVAE], name: Likelihood, world: Interactions
) -> None:
    split = per_user(world, seed=0)
    losses: list[float] = []
    model = kind(hidden=16, likelihood=name, weight=3.0, **{**SHORT, "epochs": 20, "patience": 20})
    model.fit(split.train, valid=split.valid, on_epoch=lambda one: losses.append(one.loss))
    assert losses[-1] < 0.95 * losses[0]
    assert model.trained.score > 0.25  # chance: about .15


# -- layers and latent positions


def test_reading_histories_is_the_dense_layer_on_rows_of_length_one(world: Interactions) -> None:
    people = world.histories().take(slice(0, 9))
    people = Histories(people.items, people.matrix)
    arrays = reader("one", len(world.items), 5, "cpu")
    rows = torch.nn.functional.normalize(dense(people, "cpu"), dim=1)
    expected = linear({**arrays, "one.weight": arrays["one.weight"].T}, "one", rows)
    torch.testing.assert_close(read(arrays, "one", people), expected)
    expected.pow(2).sum().backward()
    by_rows = arrays["one.weight"].grad.clone()
    arrays["one.weight"].grad = None
    read(arrays, "one", people).pow(2).sum().backward()
    torch.testing.assert_close(arrays["one.weight"].grad, by_rows)


def test_dropout_leaves_out_items_and_keeps_the_mean(world: Interactions) -> None:
    people = world.histories().take(slice(0, 1))
    arrays = {
        "one.weight": torch.eye(len(world.items)),
        "one.bias": torch.zeros(len(world.items)),
    }
    torch.manual_seed(0)
    drawn = torch.cat([read(arrays, "one", people, dropout=0.25) for _ in range(4_000)])
    whole = read(arrays, "one", people)[0]
    own = whole > 0
    assert float((drawn[:, own] == 0).double().mean()) == pytest.approx(0.25, abs=0.02)
    torch.testing.assert_close(drawn.mean(dim=0), whole, atol=0.02, rtol=0)
    assert not drawn[:, ~own].any()


def test_noise_has_unit_deviation_and_moves_by_mean_and_variance() -> None:
    torch.manual_seed(0)
    mean, log_variance = torch.full((50_000, 2), 3.0), torch.zeros(50_000, 2)
    log_variance[:, 1] = math.log(4)
    drawn = draw(mean, log_variance)
    np.testing.assert_allclose(drawn.mean(dim=0), [3, 3], atol=0.03)
    np.testing.assert_allclose(drawn.std(dim=0), [1, 2], rtol=0.02)


def test_the_divergence_is_zero_for_the_prior_and_the_closed_form_elsewhere() -> None:
    assert divergence(table([0.0, 0.0]), table([0.0, 0.0])).tolist() == [0.0]
    by_hand = 0.5 * (4 + 9 - 1 - math.log(4)) + 0.5 * (0.25 + 0 - 1 - math.log(0.25))
    found = divergence(table([3.0, 0.0]), table([math.log(4), math.log(0.25)]))
    assert found.tolist() == [pytest.approx(by_hand)]


def test_the_divergence_is_the_mean_of_log_densities_that_are_drawn() -> None:
    torch.manual_seed(0)
    mean, log_variance = table([0.5, -1.0]), table([0.2, -0.7])
    at = draw(mean.expand(100_000, 2), log_variance.expand(100_000, 2))
    zero = torch.zeros_like(at)
    drawn = (log_density(at, mean, log_variance) - log_density(at, zero, zero)).sum(dim=1).mean()
    assert float(drawn) == pytest.approx(float(divergence(mean, log_variance)[0]), abs=0.01)


def test_a_log_density_is_that_of_the_normal_distribution() -> None:
    assert float(log_density(table([0.0]), table([0.0]), table([0.0]))) == pytest.approx(
        -0.5 * math.log(2 * math.pi)
    )
    deviation = math.exp(0.5)
    by_hand = -0.5 * (2 / deviation) ** 2 - math.log(deviation * math.sqrt(2 * math.pi))
    assert float(log_density(table([3.0]), table([1.0]), table([1.0]))) == pytest.approx(by_hand)


# -- RecVAE


def test_the_composite_prior_mixes_three_densities() -> None:
    def density(at: float, mean: float, deviation: float) -> float:
        square = ((at - mean) / deviation) ** 2
        return math.exp(-0.5 * square) / (deviation * math.sqrt(2 * math.pi))

    by_hand = math.log(
        STANDARD * density(1.5, 0, 1)
        + OLD * density(1.5, 2, 0.5)
        + WIDE * density(1.5, 0, math.exp(5))
    )
    found = log_prior(table([1.5]), table([2.0]), table([math.log(0.25)]))
    assert float(found) == pytest.approx(by_hand)
    assert sum((STANDARD, OLD, WIDE)) == pytest.approx(1)


def test_the_prior_integrates_to_one() -> None:
    grid = torch.linspace(-1_000, 1_000, 400_001, dtype=torch.float64)[:, None]
    near = log_prior(grid, torch.full_like(grid, 1.0), torch.full_like(grid, -1.0)).exp()
    assert float(near.sum()) * 0.005 == pytest.approx(1, abs=1e-3)


def test_encoder_and_decoder_are_trained_in_turn_and_the_old_encoder_follows(
    world: Interactions,
) -> None:
    model = RecVAE(hidden=8, latent=4, batch=1_000)
    torch.manual_seed(0)
    parameters = model.start(world, None)
    moved = []
    for loss in model.losses(parameters, world, 1):
        for one in parameters.values():
            one.grad = None
        loss.backward()
        moved.append({name for name, one in parameters.items() if one.grad is not None})
        with torch.no_grad():
            for one in parameters.values():
                if one.grad is not None:
                    one -= 0.01 * one.grad
    decoder = {"items.weight", "items.bias"}
    encoder = {name for name in parameters if not name.startswith("old.")} - decoder
    assert moved == [encoder, encoder, encoder, decoder]
    for name in encoder:
        torch.testing.assert_close(parameters[f"old.{name}"], parameters[name].detach())


def test_what_is_served_leaves_the_old_encoder_out(world: Interactions) -> None:
    model = SMALL["rec_vae"]()
    parameters = model.start(world, None)
    assert not any(name.startswith("old.") for name in model.serving(parameters))


# -- training


def test_scoring_is_deterministic_although_training_draws(
    make: Callable[..., Neural], world: Interactions
) -> None:
    model = make().fit(world)
    people = [["i00", "i02"], ["i01"]]
    np.testing.assert_array_equal(model.score(people), model.score(people))


def test_fitting_leaves_the_random_numbers_of_others_alone(
    make: Callable[..., Neural], world: Interactions
) -> None:
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    make().fit(world)
    torch.testing.assert_close(torch.rand(3), expected)


def test_another_seed_is_another_model(make: Callable[..., Neural], world: Interactions) -> None:
    first, second = (make(seed=seed).fit(world).score([["i00"]]) for seed in (0, 1))
    assert np.abs(first - second).max() > 1e-3


def test_early_stopping_keeps_the_epoch_that_validation_liked_best(
    make: Callable[..., Neural], world: Interactions
) -> None:
    split = per_user(world, seed=0)
    seen: list[Epoch] = []
    model = make(epochs=400, every=2, patience=3)
    model.fit(split.train, valid=split.valid, on_epoch=seen.append)
    trained = model.trained
    assert not trained.capped
    assert trained.epochs == trained.best_epoch + 3 * 2 < 400
    looks = {one.number: one.score for one in seen if one.score is not None}
    assert list(looks) == list(range(2, trained.epochs + 1, 2))
    assert dict(trained.curve) == looks
    assert trained.score == max(looks.values()) == looks[trained.best_epoch]
    assert evaluate(model, split.valid).mean("ndcg@10") == trained.score
    assert [one.number for one in seen] == list(range(1, trained.epochs + 1))


def test_a_cap_of_epochs_that_ends_the_training_is_told(
    make: Callable[..., Neural], world: Interactions
) -> None:
    assert make(epochs=3, every=1, patience=50).fit(world).trained.capped


def test_a_loss_that_is_no_number_is_an_error_that_says_what_may_help(
    make: Callable[..., Neural], world: Interactions
) -> None:
    with pytest.raises(Diverged, match=r"lower learning_rate may help|model has diverged"):
        make(learning_rate=1e30, epochs=50).fit(world)


def test_a_loaded_model_does_not_say_how_it_was_trained(
    make: Callable[..., Neural], world: Interactions, tmp_path: Path
) -> None:
    model = make().fit(world)
    model.save(tmp_path)
    again = type(model).load(tmp_path)
    assert dataclasses.replace(again, device=model.device) == model
    with pytest.raises(NotFitted, match="was not trained here"):
        _ = again.trained


def test_a_device_that_is_not_there_is_an_error(
    make: Callable[..., Neural], world: Interactions, tmp_path: Path
) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    with pytest.raises(BackendError, match='device is "cuda", which torch does not find here'):
        make(device="cuda").fit(world)
    model = make(device="cpu").fit(world)
    model.save(tmp_path)
    assert type(model).load(tmp_path).place == "cpu"
    with pytest.raises(ValueError, match="device is 'gpu'; it must be one of auto, cpu, cuda"):
        make(device="gpu")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"learning_rate": 0}, "learning_rate is 0; it must be above 0"),
        ({"batch": 0}, "batch is 0; it must be above 0"),
        ({"dropout": 1.0}, "dropout is 1.0; it must be at least 0 and below 1"),
        ({"metric": "ndcg"}, "metric is 'ndcg'; it must be one of ndcg, recall"),
    ],
)
def test_settings_without_sense_are_errors(
    make: Callable[..., Neural], wrong: dict[str, float], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        make(**wrong)
