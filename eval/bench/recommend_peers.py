"""Other libraries' recommenders beside ours: installed apart, on one split, by one metric's code.

RecBole's models run at its defaults with its own early stopping (more patient for LightGCN),
cornac's at theirs (EASE with three penalties), implicit's ALS with 27 settings; of several
candidates validation chooses. What they return are scores, which our code ranks and judges.

`speedup_<model>` is seconds over seconds: what the peer's training took up to the epoch that it
kept, looks at validation not counted, over what our model's `fit` takes until it first reaches the
peer's NDCG@10 on validation, looks counted. cornac and implicit do not look, so theirs is the whole
fit. None: ours did not get there.
"""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
import venv
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import numpy as np

from persona_agent.errors import BackendError
from persona_agent.recommend.data import Histories
from persona_agent.recommend.evaluate import accuracy
from persona_agent.recommend.graph import Graph
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.port import Recommender
from persona_agent.recommend.ranking import rank
from persona_agent.recommend.splits import Holdout, Split
from persona_agent.recommend.training import Epoch
from persona_agent.types import FloatArray

METRIC = "ndcg@10"
SCRIPT = Path(__file__).with_name("recommend_peer.py")

# RecBole 1.2.1 uses names that numpy 2 and scipy 1.13 have dropped, and of what it asks for Ray and
# more is not needed to train.
PLACES: Mapping[str, Sequence[Sequence[str]]] = {
    "recbole": (
        ("--no-deps", "recbole==1.2.1"),
        (
            *("numpy==1.26.4", "scipy==1.11.4", "pandas==2.2.3", "scikit-learn<1.6"),
            *("colorlog==4.7.2", "colorama==0.4.4", "tensorboard", "texttable", "tqdm"),
            *("pyyaml", "psutil"),
        ),
    ),
    "cornac": (("cornac==3.0.1",),),
    "implicit": (("implicit==0.7.3",),),
}
WITH_TORCH = ("recbole", "cornac")

# Which of our models is held against which of theirs.
OURS = {
    "recbole_multivae": "mult_vae",
    "recbole_recvae": "rec_vae",
    "recbole_lightgcn": "lightgcn",
    "recbole_ease": "ease",
    "cornac_ease": "ease",
    "cornac_vaecf": "mult_vae",
    "implicit_als": "mult_dae_logistic",
}


def measure(
    split: Split, ours: Mapping[str, Callable[[], Recommender]], graph: Graph | None = None
) -> dict[str, float | None]:
    """Return the peers' NDCG@10 on the test part, and our models' speed beside them.

    `ours` are our models with the settings that validation chose. Raises BackendError if a peer
    cannot be installed or does not run.
    """
    figures: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory(prefix="bench-peers-") as name:
        folder = Path(name)
        write(split, folder)
        for library in PLACES:
            seconds = _run_in_its_place(folder, library)
            for peer in dict.fromkeys(one.rpartition(".")[0] for one in seconds):
                tables = {
                    one: np.load(folder / f"{one}.npy")
                    for one in seconds
                    if one.rpartition(".")[0] == peer
                }
                valid = {one: judge(table, split, split.valid) for one, table in tables.items()}
                best = max(valid, key=lambda one: valid[one])
                figures[f"peer_ndcg10_{peer}"] = judge(tables[best], split, split.test)
                figures[f"peer_fit_s_{peer}"] = seconds[best]
                make = ours.get(OURS[peer])
                if make is not None:
                    taken = seconds_to(make(), split, valid[best], graph)
                    figures[f"speedup_{peer}"] = taken and seconds[best] / taken
    return figures


def write(split: Split, folder: Path) -> None:
    """Write the split as RecBole's atomic files, and the order of users and items."""
    home = folder / "peer"
    home.mkdir(parents=True)
    train = split.train
    (folder / "users.txt").write_text("\n".join(train.users), encoding="utf-8")
    (folder / "items.txt").write_text("\n".join(train.items), encoding="utf-8")
    parts = {"train": train.histories(), "valid": split.valid.wanted, "test": split.test.wanted}
    for name, people in parts.items():
        if people.users is None:
            raise ValueError(f"the people of {name} have no names; peers know people by name only")
        lines = [
            f"{user}\t{item}"
            for user, row in zip(people.users, people.lists(), strict=True)
            for item in row
        ]
        text = "\n".join(["user_id:token\titem_id:token", *lines])
        (home / f"peer.{name}.inter").write_text(text, encoding="utf-8")


def judge(scores: FloatArray, split: Split, holdout: Holdout) -> float:
    """Return NDCG@10 of scores (training users, items) by the code that judges our models."""
    users, items = split.train.users, split.train.items
    ranking = rank(
        lambda people: _rows(scores, people, users),
        items,
        holdout.histories,
        10,
        deny=holdout.deny,
    )
    return float(accuracy(ranking, holdout.wanted.on(items), (10,))[METRIC].mean())


def seconds_to(
    model: Recommender, split: Split, target: float, graph: Graph | None = None
) -> float | None:
    """Return the seconds from the call of fit until validation's NDCG@10 reaches `target`.

    For a model without epochs, those of the whole fit. None if it does not get there.
    """
    reached: list[float] = []
    begun = time.perf_counter()

    def look(epoch: Epoch) -> None:
        if not reached and epoch.score is not None and epoch.score >= target:
            reached.append(time.perf_counter() - begun)

    train, valid = split.train, split.valid
    begun = time.perf_counter()
    model.fit(train, graph, valid=valid, on_epoch=look)
    whole = time.perf_counter() - begun
    if reached:
        return reached[0]
    return whole if judge(model.score(train.histories()), split, valid) >= target else None


def _rows(scores: FloatArray, people: Histories, users: IdMap) -> FloatArray:
    """Return a copy of the rows of these people."""
    if people.users is None:
        raise ValueError("these people have no names; scores are kept by name")
    found: FloatArray = scores[users.positions(people.users)]
    return found


def _run_in_its_place(folder: Path, library: str) -> dict[str, float]:
    """Install a library into an environment of its own, train its models, return the seconds."""
    home = folder / library
    venv.create(home, with_pip=True)
    python = str(home / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    if library in WITH_TORCH:
        _run([*pip, f"torch=={version('torch').partition('+')[0]}"], folder)
    for packages in PLACES[library]:
        _run([*pip, *packages], folder)
    said = _run([python, "-P", "-W", "ignore", str(SCRIPT), str(folder), library], folder)
    found: dict[str, float] = json.loads(said.splitlines()[-1])
    return found


def _run(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    if done.returncode:
        raise BackendError(f"{' '.join(command[:6])} failed: {done.stderr.strip()[-500:]}")
    return done.stdout
