"""Other libraries' recommenders on our split; run by `bench recommend --peers`, each in its own place.

Usage: python recommend_peer.py FOLDER {recbole|cornac|implicit}. FOLDER/peer holds the split as
RecBole's atomic files, users.txt and items.txt the order of rows and columns. For every model
and candidate, FOLDER/NAME.CANDIDATE.npy gets float32 scores (users, items) of all users; the last
line that is printed is a JSON object with the seconds of training that each of them took.
"""

from __future__ import annotations

import itertools
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Scores: TypeAlias = npt.NDArray[np.float32]
Run: TypeAlias = tuple[str, Scores, float]  # NAME.CANDIDATE, scores, seconds

RECBOLE = ("MultiVAE", "RecVAE", "LightGCN", "EASE")  # its KGAT needs a dgl that does not install
# Epochs without a gain. At its default of 10, LightGCN is stopped while it still ranks by popularity.
PATIENCE = {"LightGCN": 60}


def main(folder: Path, library: str) -> None:
    """Train every model of this library, keep the scores, and print the seconds."""
    libraries: dict[str, Callable[[Path], Iterator[Run]]] = {
        "recbole": recbole,
        "cornac": cornac,
        "implicit": implicit,
    }
    seconds = {}
    for name, scores, took in libraries[library](folder):
        np.save(folder / f"{name}.npy", scores)
        seconds[name] = took
        print(f"{name}: {took:.1f} s", file=sys.stderr)
    print(json.dumps(seconds))


def recbole(folder: Path) -> Iterator[Run]:
    """Yield RecBole's models at its defaults but PATIENCE, stopped and kept by validation's NDCG@10.

    The seconds are those of making the model and of its training epochs up to the best; looking at
    validation, which it does after every epoch, is not counted.
    """
    for name in RECBOLE:
        yield (f"recbole_{name.lower()}.0", *_trained(name, folder))


def _trained(name: str, folder: Path) -> tuple[Scores, float]:
    """Return the scores of RecBole's model of this name, and the seconds."""
    from recbole.config import Config
    from recbole.data import create_dataset, data_preparation
    from recbole.utils import get_model, get_trainer, init_seed

    settings = {
        "data_path": str(folder),
        "checkpoint_dir": str(folder / "saved"),
        "benchmark_filename": ["train", "valid", "test"],
        "load_col": {"inter": ["user_id", "item_id"]},
        "metrics": ["NDCG"],
        "topk": [10],
        "valid_metric": "NDCG@10",
        "show_progress": False,
        "stopping_step": PATIENCE.get(name, 10),
    }
    config = Config(model=name, dataset="peer", config_dict=settings)
    init_seed(config["seed"], config["reproducibility"])
    train, valid, _ = data_preparation(config, create_dataset(config))
    users, items = _names(folder)
    rows = train.dataset.token2id("user_id", users)
    columns = train.dataset.token2id("item_id", items)
    begun = time.perf_counter()
    model = get_model(name)(config, train.dataset).to(config["device"])
    made = time.perf_counter() - begun
    trainer = _timed(get_trainer(config["MODEL_TYPE"], name))(config, model)
    best: list[tuple[float, Scores, float]] = []

    def keep(epoch: int, score: float) -> None:
        if not best or score > best[-1][0]:
            best.append((score, _all_scores(model, rows, columns), trainer.spent))

    trainer.fit(train, valid, verbose=False, saved=False, callback_fn=keep)
    _, scores, spent = best[-1]
    return scores, made + spent


def cornac(folder: Path) -> Iterator[Run]:
    """Yield cornac's EASE with several penalties, and VAECF at its defaults.

    Its RecVAE runs, too, but an epoch takes ten times what RecBole's takes; its LightGCN needs dgl.
    """
    from cornac.data import Dataset
    from cornac.models import EASE, VAECF

    users, items = _names(folder)
    pairs = [(user, item, 1.0) for user, item in _pairs(folder)]
    data = Dataset.from_uir(pairs, seed=0)
    columns = [data.iid_map.get(item, -1) for item in items]
    candidates: dict[str, list[Callable[[], Any]]] = {  # Any: a model of cornac
        "ease": [partial(EASE, lamb=lamb, posB=False, verbose=False) for lamb in (100, 250, 500)],
        "vaecf": [partial(VAECF, seed=0)],
    }
    for name, makes in candidates.items():
        for number, make in enumerate(makes):
            model = make()
            begun = time.perf_counter()
            model.fit(data)
            took = time.perf_counter() - begun
            scores = np.stack([np.asarray(model.score(data.uid_map[one])).ravel() for one in users])
            padded = np.pad(scores, ((0, 0), (0, 1)), constant_values=scores.min())
            yield f"cornac_{name}.{number}", padded[:, columns].astype(np.float32), took


def implicit(folder: Path) -> Iterator[Run]:
    """Yield ALS with several sizes, penalties and weights."""
    from implicit.als import AlternatingLeastSquares
    from scipy import sparse

    users, items = _names(folder)
    row = {name: number for number, name in enumerate(users)}
    column = {name: number for number, name in enumerate(items)}
    places = np.array([(row[user], column[item]) for user, item in _pairs(folder)])
    ones = np.ones(len(places), np.float32)
    matrix = sparse.csr_matrix((ones, places.T), shape=(len(users), len(items)))
    grid = itertools.product((32, 64, 128), (10.0, 30.0, 60.0), (2.0, 5.0, 10.0))
    for number, (factors, penalty, alpha) in enumerate(grid):
        model = AlternatingLeastSquares(
            factors=factors, regularization=penalty, alpha=alpha, random_state=0
        )
        begun = time.perf_counter()
        model.fit(matrix, show_progress=False)
        took = time.perf_counter() - begun
        scores = np.asarray(model.user_factors) @ np.asarray(model.item_factors).T
        yield f"implicit_als.{number}", scores.astype(np.float32), took


def _timed(trainer: type[Any]) -> type[Any]:  # Any: a trainer of RecBole
    """Return a trainer that knows how many seconds its training epochs took."""

    class Timed(trainer):  # type: ignore[misc]  # the class is only known here
        spent = 0.0

        def _train_epoch(self, *arguments: object, **named: object) -> object:
            begun = time.perf_counter()
            loss = super()._train_epoch(*arguments, **named)
            self.spent += time.perf_counter() - begun
            return loss

    return Timed


def _all_scores(model: Any, rows: Any, columns: Any) -> Scores:  # Any: of RecBole and torch
    import torch

    model.eval()
    with torch.no_grad():
        parts = [
            model.full_sort_predict({model.USER_ID: some.to(model.device)}).reshape(len(some), -1)
            for some in torch.as_tensor(rows).split(256)
        ]
    scores: Scores = torch.cat(parts).cpu().numpy().astype(np.float32)[:, columns]
    return scores


def _names(folder: Path) -> tuple[list[str], list[str]]:
    users, items = (
        (folder / name).read_text(encoding="utf-8").split() for name in ("users.txt", "items.txt")
    )
    return users, items


def _pairs(folder: Path) -> Iterator[tuple[str, str]]:
    lines = (folder / "peer" / "peer.train.inter").read_text(encoding="utf-8").splitlines()[1:]
    for line in lines:
        user, item = line.split("\t")
        yield user, item


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
