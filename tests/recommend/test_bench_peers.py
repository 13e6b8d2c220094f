"""Peers get our split as it is, and their scores are judged as our models are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from persona_agent.eval.bench.recommend import CANDIDATES
from persona_agent.eval.bench.recommend_peers import OURS, judge, seconds_to, write
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.evaluate import evaluate
from persona_agent.recommend.mult_dae import MultDAE
from persona_agent.recommend.readers import read_atomic
from persona_agent.recommend.splits import Split, per_user


@pytest.fixture(scope="module")
def split(world: Interactions) -> Split:
    return per_user(world, seed=0)


def test_what_is_written_is_the_split(split: Split, tmp_path: Path) -> None:
    write(split, tmp_path)
    train = read_atomic(tmp_path / "peer" / "peer.train.inter")
    assert train.histories().lists() == split.train.histories().lists()
    for name, holdout in (("valid", split.valid), ("test", split.test)):
        found = read_atomic(tmp_path / "peer" / f"peer.{name}.inter")
        assert found.histories().lists() == holdout.wanted.lists()
        assert list(found.users) == list(holdout.wanted.users)
    assert (tmp_path / "users.txt").read_text().split() == list(split.train.users)
    assert (tmp_path / "items.txt").read_text().split() == list(split.train.items)


def test_scores_from_outside_are_judged_as_a_model_of_ours(split: Split) -> None:
    model = EASE(l2=5).fit(split.train)
    scores = model.score(split.train.histories())
    for holdout in (split.valid, split.test):
        expected = evaluate(model, holdout, ks=(10,)).mean("ndcg@10")
        assert judge(scores, split, holdout) == expected
    assert judge(-scores, split, split.valid) < judge(scores, split, split.valid)


def test_the_seconds_to_a_score_end_when_it_is_first_reached(split: Split) -> None:
    model = MultDAE(hidden=16, epochs=30, every=1, batch=16, learning_rate=1e-2)
    model.fit(split.train, valid=split.valid)
    first, best = model.trained.curve[0][1], model.trained.score
    soon, late = (seconds_to(model, split, target) for target in (first, best))
    assert soon is not None
    assert late is not None
    assert 0 < soon < late
    assert seconds_to(model, split, best + 0.01) is None


def test_a_model_without_epochs_takes_its_whole_fit_or_does_not_get_there(split: Split) -> None:
    valid = evaluate(EASE(l2=5).fit(split.train), split.valid).mean("ndcg@10")
    taken = seconds_to(EASE(l2=5), split, valid)
    assert taken is not None
    assert taken > 0
    assert seconds_to(EASE(l2=5), split, np.nextafter(valid, 1)) is None


def test_every_peer_is_held_against_a_model_that_is_measured() -> None:
    assert set(OURS.values()) <= set(CANDIDATES)
