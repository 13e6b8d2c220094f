"""How good and how fast the recommenders are, by one fixed protocol.

MovieLens-100K; a rating of 4 or 5 is a positive; each user's positives dealt 8:1:1 at random as
RecBole deals them; the full ranking; NDCG@10. Settings are chosen on the validation part, and the
test part is looked at once. A model joins by a line in `CANDIDATES`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import mean, median
from typing import Any

import numpy as np

from persona_agent.eval.bench import recommend_peers
from persona_agent.eval.datasets import movielens_100k
from persona_agent.recommend.amp_cf import AMPCF
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.evaluate import evaluate
from persona_agent.recommend.graph import Graph
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
from persona_agent.recommend.splits import Split, per_user

METRIC = "ndcg@10"
SPLITS = 5
PEOPLE, ITEMS = 10_000, 25_000
PERSONS = 300  # whose fold-in is timed

# What the autoencoders share. Their other settings were tried out on the first split's validation.
STEPS: Mapping[str, Any] = {"batch": 128, "every": 2}

# Each model's candidate settings, of which validation chooses one a split.
CANDIDATES: Mapping[str, Sequence[Callable[[], Recommender]]] = {
    "popularity": [Popularity],
    "item_knn": [
        partial(ItemKNN, neighbours=n, shrinkage=s) for n in (100, 200) for s in (5.0, 10.0)
    ],
    "ease": [partial(EASE, l2=l2) for l2 in (100.0, 150.0, 250.0, 400.0, 600.0)],
    "rp3beta": [
        partial(RP3beta, alpha=alpha, neighbours=n) for alpha in (0.5, 0.6) for n in (200, 1000)
    ],
    "mult_dae": [
        partial(MultDAE, **STEPS, learning_rate=2e-3, dropout=0.6, weight_decay=3e-4),
    ],
    "mult_dae_logistic": [
        partial(
            MultDAE,
            **STEPS,
            likelihood="logistic",
            hidden=300,
            learning_rate=2e-3,
            weight_decay=3e-4,
        ),
    ],
    "mult_vae": [
        partial(
            MultVAE,
            **STEPS,
            hidden=200,
            latent=100,
            beta=0.03,
            anneal_steps=100,
            learning_rate=2e-3,
            dropout=0.7,
            weight_decay=1e-3,
        ),
        partial(MultVAE, **STEPS, hidden=600, latent=200, anneal_steps=500, learning_rate=5e-4),
    ],
    "mult_vae_gaussian": [
        partial(
            MultVAE,
            **STEPS,
            likelihood="gaussian",
            weight=5.0,
            hidden=200,
            latent=64,
            beta=0.03,
            anneal_steps=500,
            weight_decay=1e-4,
        ),
    ],
    "mult_vae_logistic": [
        partial(
            MultVAE,
            **STEPS,
            likelihood="logistic",
            hidden=300,
            latent=100,
            learning_rate=2e-3,
            beta=0.005,
            anneal_steps=1_000,
            weight_decay=3e-4,
        ),
    ],
    "rec_vae": [
        partial(
            RecVAE,
            **STEPS,
            hidden=100,
            latent=64,
            learning_rate=3e-3,
            gamma=0.01,
            dropout=0.7,
        ),
    ],
    "nested": [Nested, partial(Nested, relation="graph")],
    "amp_cf": [partial(AMPCF, l2=l2) for l2 in (8.0, 10.0)],
    "amp_cf_one_persona": [partial(AMPCF, personas=1, l2=l2) for l2 in (8.0, 10.0)],
    "lightgcn": [
        partial(LightGCN, loss="softmax", batch=256, width=128, layers=2, learning_rate=5e-3, l2=l2)
        for l2 in (0.01, 0.02)
    ],
    "kgat": [
        partial(
            KGAT,
            loss="softmax",
            batch=128,
            layers=(64,),
            learning_rate=1e-2,
            l2=0.03,
            edges="facts",
            edge_batch=32_768,
            every=3,
            patience=2,
        )
    ],
}


# Those whose fits take more than a few seconds, those that learn from facts, and those whose fold-in
# is more than a product.
SLOW = (
    "nested",
    "mult_vae",
    "mult_vae_logistic",
    "rec_vae",
    "amp_cf",
    "amp_cf_one_persona",
    "lightgcn",
    "kgat",
)
GRAPHS = ("nested", "kgat")
FOLDED_IN = ("mult_vae", "rec_vae", "amp_cf", "lightgcn", "kgat")


@dataclass(frozen=True, slots=True, eq=False)
class Chosen:
    """The candidate that validation chose: how it is made, fitted, how good and how long it took."""

    make: Callable[[], Recommender]
    model: Recommender
    valid: float
    test: float
    seconds: float


def measure(
    folder: Path | None = None, *, quick: bool = False, peers: bool = False
) -> dict[str, float | None]:
    """Return, by model, NDCG@10 and the seconds of one fit; and what serving costs.

    Means over five splits. `fit_s_*` is the median fit of the chosen settings. With `peers` other
    libraries' models, on the first of the splits. `quick` is one split, without the `SLOW` models,
    whose figures are None. So are those of `GRAPHS` without the `folder` of all data, for then
    there is no graph.
    """
    data = movielens_100k(folder)
    left_out = (SLOW if quick else ()) + (() if len(data.graph) else GRAPHS)
    splits = [per_user(data.liked(), seed=seed) for seed in range(1 if quick else SPLITS)]
    figures: dict[str, float | None] = {}
    first: dict[str, Chosen] = {}
    MultDAE(epochs=1).fit(crowd(20, 30))  # what torch loads at its first step is no part of a fit
    for name, candidates in CANDIDATES.items():
        if name in left_out:
            figures |= {f"ndcg10_{name}": None, f"fit_s_{name}": None}
            continue
        runs = [tuned(candidates, split, data.graph) for split in splits]
        first[name] = runs[0]
        figures[f"ndcg10_{name}"] = mean(one.test for one in runs)
        figures[f"fit_s_{name}"] = median(one.seconds for one in runs)
    histories = splits[0].train.histories().lists()[:PERSONS]
    figures["foldin_p50_ms"] = fold_in(first["ease"].model, histories)
    for name in FOLDED_IN:
        there = name in first
        figures[f"foldin_p50_ms_{name}"] = fold_in(first[name].model, histories) if there else None
    people = 2_000 if quick else PEOPLE
    figures["top20_ms_per_1000_users"] = serving(ItemKNN(neighbours=50), people, ITEMS)
    if peers:
        ours = {name: one.make for name, one in first.items()}
        figures |= recommend_peers.measure(splits[0], ours, data.graph)
    return figures


def tuned(
    candidates: Sequence[Callable[[], Recommender]], split: Split, graph: Graph | None = None
) -> Chosen:
    """Return the candidate that does best on validation, and how good it is on the test part."""
    train, valid = split.train, split.valid
    best: tuple[float, float, Callable[[], Recommender], Recommender] | None = None
    for make in candidates:
        model = make()
        begun = time.perf_counter()
        model.fit(train, graph, valid=valid)
        seconds = time.perf_counter() - begun
        quality = evaluate(model, valid, ks=(10,)).mean(METRIC)
        if best is None or quality > best[0]:
            best = quality, seconds, make, model
    if best is None:
        raise ValueError("there are no candidates to choose from")
    quality, seconds, make, model = best
    return Chosen(make, model, quality, evaluate(model, split.test, ks=(10,)).mean(METRIC), seconds)


def fold_in(model: Recommender, histories: Sequence[Sequence[str]]) -> float:
    """Return the median milliseconds from one person's item ids to the top 20."""
    model.recommend(histories[:1], 20)  # what is made at the first call is not what a person costs
    times = []
    for history in histories:
        begun = time.perf_counter()
        model.recommend([history], 20)
        times.append(time.perf_counter() - begun)
    return 1000 * median(times)


def serving(model: Recommender, people: int, items: int) -> float:
    """Return milliseconds a thousand people for the top 20 of all items, of a batch of `people`."""
    data = crowd(people, items)
    model.fit(data)
    histories = data.histories()
    begun = time.perf_counter()
    model.recommend(histories, 20)
    return 1_000_000 * (time.perf_counter() - begun) / len(histories)


def crowd(people: int, items: int, *, each: int = 40, seed: int = 0) -> Interactions:
    """Return made-up people with about `each` items, chosen as unevenly as people choose.

    Every item is chosen at least once, so that the catalogue has `items` items.
    """
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, items + 1) ** 0.8
    chosen = rng.choice(items, people * each, p=popularity / popularity.sum())
    owner = np.repeat(np.arange(people), each)
    owner = np.append(owner, rng.integers(0, people, items))
    chosen = np.append(chosen, np.arange(items))
    return Interactions.of(owner.astype(str).astype(object), chosen.astype(str).astype(object))
