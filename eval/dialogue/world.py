"""Last.FM* with the vectors and scores that arms share; what is costly is kept in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from persona_agent.recommend.amp_cf import AMPCF
from persona_agent.recommend.dialogue import environment, lastfm_star
from persona_agent.recommend.dialogue.environment import Episodes
from persona_agent.recommend.dialogue.lastfm_star import LastFMStar
from persona_agent.recommend.dialogue.scores import (
    FixedScores,
    ItemScores,
    SharedScores,
    SummedScores,
    VectorScores,
    by_recommender,
    few_attributes,
    popularity,
    sharpness,
)
from persona_agent.recommend.dialogue.vectors import at_random, by_transe, split
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.knn import ItemKNN
from persona_agent.recommend.lightgcn import LightGCN
from persona_agent.recommend.port import Recommender
from persona_agent.recommend.splits import Holdout
from persona_agent.recommend.transe import TransE

OPENING = "+few-tags"
RECOMMENDERS: Mapping[str, Callable[[int], Recommender]] = {
    "item-knn": lambda seed: ItemKNN(neighbours=200, shrinkage=10.0),
    "ease": lambda seed: EASE(l2=200.0),
    "lightgcn": lambda seed: LightGCN(epochs=60, seed=seed),
    "amp-cf": lambda seed: AMPCF(epochs=60, seed=seed),
}


@dataclass(eq=False)
class World:
    """The data, and by seed what is learned from its training part, worked out when asked for."""

    data: LastFMStar
    folder: Path
    episodes: int | None = None
    _sharp: dict[tuple[str, int], float] = field(default_factory=dict)

    def test(self, seed: int) -> Episodes:
        """Return the test's episodes, or so many of them, spread evenly; openings by `seed`."""
        every = environment.every(self.data.table, self.data.test, seed=seed)
        if self.episodes is None or self.episodes >= len(every):
            return every
        return every.take(np.linspace(0, len(every) - 1, self.episodes).astype(np.int64))

    def scores(self, name: str, seed: int) -> ItemScores:
        """Return scores by name: flat, popular, few-tags, transe, random or a recommender's.

        With OPENING after it, they are log-chances after the opening of this simulator.
        """
        table, users = self.data.table, len(self.data.train.users)
        if name == "flat":
            return SharedScores(np.zeros(len(table), np.float32))
        if name == "popular":
            return popularity(self.data.train)
        if name == "few-tags":
            return few_attributes(table)
        if name.endswith(OPENING):
            known = name.removesuffix(OPENING)
            parts = (
                (self.scores(known, seed), self.sharpness(known, seed)),
                (few_attributes(table), 1.0),
            )
            return SummedScores(parts)
        if name == "random":
            return at_random(table, users, seed=seed)
        if name == "transe":
            return self.vectors(seed)
        return self._recommended(name, seed)

    def sharpness(self, name: str, seed: int) -> float:
        """Return by how much scores are to be multiplied to be log-chances: from validation."""
        if name == "few-tags" or name.endswith(OPENING):
            return 1.0  # log-chances already
        if name == "flat":
            return 0.0
        if (name, seed) not in self._sharp:
            known = self.data.valid
            found = sharpness(self.scores(name, seed), self.data.table, known)
            self._sharp[name, seed] = found
        return self._sharp[name, seed]

    def vectors(self, seed: int) -> VectorScores:
        """Return scores by TransE."""
        path = self.folder / "vectors" / f"transe-{seed}.npy"
        table, users = self.data.table, len(self.data.train.users)
        if not path.exists():
            found = by_transe(self.data, TransE(epochs=15, seed=seed))
            _keep(path, np.concatenate([found.users, found.items, found.attributes]))
        return split(table, np.load(path, allow_pickle=False), users)

    def _recommended(self, name: str, seed: int) -> FixedScores:
        """Return a recommender's scores for the histories of training, fitted on all of them."""
        path = self.folder / "scores" / f"{name}-{seed}.npy"
        if not path.exists():
            train, valid = self.data.train, self.data.valid
            histories = train.histories()
            some = np.flatnonzero(np.diff(valid.matrix.indptr))
            held_out = Holdout(histories.take(some), valid.histories().take(some))
            model = RECOMMENDERS[name](seed)
            model.fit(train, valid=held_out)
            _keep(path, by_recommender(model, histories, self.data.table).scores)
        return FixedScores(np.load(path, allow_pickle=False))


def open_world(data: Path, folder: Path, episodes: int | None = None) -> World:
    """Return the world of the folder of all data; `folder` keeps what is learned."""
    return World(lastfm_star.read(data / "crs-lastfm-star"), folder, episodes)


def _keep(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".tmp.npy")
    np.save(beside, array, allow_pickle=False)
    beside.replace(path)
