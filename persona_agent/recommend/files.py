"""Fitted models on disk: model.json with settings and ids, model.safetensors with arrays."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from persona_agent.errors import InputError
from persona_agent.files import write_whole
from persona_agent.recommend.ids import IdMap
from persona_agent.types import Json

FORMAT = 1
Arrays = Mapping[str, npt.NDArray[Any]]  # Any: floats, integers and flags side by side


@dataclass(frozen=True, slots=True, eq=False)
class Saved:
    """What a folder holds: which model, how it was set up, its items and its arrays."""

    model: str
    settings: Mapping[str, Json]
    items: IdMap
    arrays: Arrays


def save(folder: str | Path, saved: Saved) -> None:
    """Write a model to `folder`, which is made if need be; a model there is replaced.

    model.json is written last and names the hash of the arrays, so that a folder that was only
    half written does not load.
    """
    from safetensors.numpy import save as pack

    home = Path(folder)
    home.mkdir(parents=True, exist_ok=True)
    data = pack({name: np.ascontiguousarray(one) for name, one in saved.arrays.items()})
    header = {
        "format": FORMAT,
        "model": saved.model,
        "settings": dict(saved.settings),
        "arrays_sha256": hashlib.sha256(data).hexdigest(),
        "items": list(saved.items),
    }
    write_whole(home / "model.safetensors", data)
    write_whole(home / "model.json", json.dumps(header).encode())


def load(folder: str | Path, model: str) -> Saved:
    """Return what `save` wrote; raises InputError unless it is whole and of this model."""
    from safetensors.numpy import load as unpack

    home = Path(folder)
    try:
        header = json.loads((home / "model.json").read_bytes())
        data = (home / "model.safetensors").read_bytes()
    except (OSError, ValueError) as error:
        raise InputError(f"{home} holds no saved recommender: {error}") from error
    if header.get("format") != FORMAT:
        raise InputError(f"{home} has format {header.get('format')!r}; this version reads {FORMAT}")
    if header["model"] != model:
        raise InputError(f"{home} holds a {header['model']}, not a {model}")
    if hashlib.sha256(data).hexdigest() != header["arrays_sha256"]:
        raise InputError(f"{home}/model.safetensors is not what model.json says; save it again")
    items = IdMap.ordered(header["items"], "item")
    return Saved(header["model"], header["settings"], items, unpack(data))
