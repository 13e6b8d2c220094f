"""The search keeps its budget, looks at validation only, and goes on where it was stopped."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from persona_agent.errors import Diverged, InputError
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.evaluate import evaluate
from persona_agent.recommend.mult_dae import MultDAE
from persona_agent.recommend.search import Budget, Trial, search
from persona_agent.recommend.spaces import SPACES, Choice, Real, Whole
from persona_agent.recommend.splits import Split, per_user

pytest.importorskip("optuna")

SPACE = SPACES[EASE]


@pytest.fixture(scope="module")
def split(world: Interactions) -> Split:
    return per_user(world, seed=0)


def settled(trials: tuple[Trial, ...]) -> list[tuple[dict[str, object], float | None]]:
    """Return what must be equal from run to run: all but the seconds."""
    return [(dict(one.settings), one.score) for one in trials]


def test_it_returns_the_best_by_validation_and_all_trials(split: Split) -> None:
    told: list[Trial] = []
    found = search(
        EASE, SPACE, split.train, split.valid, budget=Budget(trials=5), on_trial=told.append
    )
    assert [one.number for one in found.trials] == [1, 2, 3, 4, 5]
    assert tuple(told) == found.trials
    assert found.best.score == max(one.score for one in found.trials if one.score is not None)
    assert found.model.l2 == found.best.settings["l2"]
    assert evaluate(found.model, split.valid).mean("ndcg@10") == found.best.score
    assert found.capped == 0


def test_the_same_seed_tries_the_same_settings_and_another_seed_others(split: Split) -> None:
    runs = [
        search(EASE, SPACE, split.train, split.valid, budget=Budget(trials=12), seed=seed).trials
        for seed in (0, 0, 1)
    ]
    assert settled(runs[0]) == settled(runs[1])
    assert settled(runs[0]) != settled(runs[2])


def test_a_search_that_was_stopped_goes_on_as_if_it_had_not(split: Split, tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    run = partial(search, EASE, SPACE, split.train, split.valid)
    whole = run(budget=Budget(trials=14))
    run(budget=Budget(trials=3), storage=path)
    run(budget=Budget(trials=12), storage=path)
    told: list[Trial] = []
    again = run(budget=Budget(trials=14), storage=path, on_trial=told.append)
    assert settled(again.trials) == settled(whole.trials)
    assert [one.number for one in told] == [13, 14]
    assert again.best.settings == whole.best.settings
    finished = run(budget=Budget(trials=14), storage=path)
    people = [["i00", "i03"]]
    np.testing.assert_array_equal(finished.model.score(people), whole.model.score(people))


def test_a_trial_that_was_killed_half_way_is_made_again(split: Split, tmp_path: Path) -> None:
    path = tmp_path / "search.db"

    def killed(**settings: float) -> EASE:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(killed, SPACE, split.train, split.valid, budget=Budget(trials=2), storage=path)
    run = partial(search, EASE, SPACE, split.train, split.valid, budget=Budget(trials=2))
    assert settled(run(storage=path).trials) == settled(run().trials)


def test_another_search_of_the_same_name_is_refused(split: Split, tmp_path: Path) -> None:
    path = tmp_path / "search.db"
    run = partial(search, EASE, storage=path, budget=Budget(trials=1))
    run(SPACE, split.train, split.valid)
    run(SPACE, split.train, split.valid, name="other", seed=1)
    other = per_user(split.interactions, seed=1)
    for wrong in (
        partial(run, SPACE, split.train, split.valid, seed=1),
        partial(run, {"l2": Real(1, 2)}, split.train, split.valid),
        partial(run, SPACE, split.train, split.valid, metric="recall@5"),
        partial(run, SPACE, other.train, other.valid),
    ):
        with pytest.raises(InputError, match="holds a search 'search' with other data, space"):
            wrong()


def test_seconds_are_a_budget_and_one_trial_is_always_made(split: Split) -> None:
    run = partial(search, EASE, SPACE, split.train, split.valid)
    assert len(run(budget=Budget(seconds=1e-9)).trials) == 1
    found = run(budget=Budget(trials=1_000, seconds=0.1))
    assert len(found.trials) < 1_000
    assert sum(one.seconds for one in found.trials) >= 0.1
    with pytest.raises(ValueError, match="needs trials, seconds, or both"):
        Budget()
    with pytest.raises(ValueError, match="trials is 0; it must be above 0"):
        Budget(trials=0)


def test_a_model_with_epochs_tells_whether_their_cap_was_binding(split: Split) -> None:
    space = {"hidden": Whole(4, 16), "dropout": Choice((0.2, 0.5))}
    make = partial(MultDAE, epochs=2, every=1)
    found = search(make, space, split.train, split.valid, budget=Budget(trials=2))
    assert found.capped == 2
    assert found.best.capped
    assert {one.settings["dropout"] for one in found.trials} <= {0.2, 0.5}


def test_settings_with_which_training_diverges_cost_a_trial_and_end_nothing(split: Split) -> None:
    make = partial(MultDAE, epochs=3, every=1, hidden=4)
    space = {"learning_rate": Choice((1e-2, 1e30))}
    found = search(make, space, split.train, split.valid, budget=Budget(trials=6))
    failed = [one for one in found.trials if one.score is None]
    assert 0 < len(failed) < 6
    assert all("diverged" in one.failure for one in failed)
    assert found.best.settings == {"learning_rate": 1e-2}
    with pytest.raises(Diverged, match=r"none of 2 settings trained; the last: .* diverged"):
        search(
            make,
            {"learning_rate": Choice((1e30,))},
            split.train,
            split.valid,
            budget=Budget(trials=2),
        )


def test_every_space_names_settings_that_its_model_takes(split: Split) -> None:
    for kind, space in SPACES.items():
        ends = {
            name: one.values[0] if isinstance(one, Choice) else one.low
            for name, one in space.items()
        }
        assert kind(**ends).fit  # raises if a name or a value is wrong


def test_the_example_of_the_documentation_runs(
    split: Split, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[2] / "docs" / "recommend.md").read_text(encoding="utf-8")
    code = re.findall(r"## Search\n\n```python\n(.*?)```", text, re.DOTALL)[0]
    for much, little in (("trials=30", "trials=1"), ("epochs=500", "epochs=1")):
        assert much in code
        code = code.replace(much, little)
    names: dict[str, object] = {"split": split}
    exec(code, names)  # noqa: S102  # our own documentation
    assert names["found"].best.number == 1  # type: ignore[attr-defined]  # it is a Found
    assert (tmp_path / "search.db").exists()
