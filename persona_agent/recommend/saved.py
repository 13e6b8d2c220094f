"""Open a saved recommender of whatever kind, by what its folder says it is."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path

from persona_agent.errors import InputError
from persona_agent.recommend.port import Recommender

# By name, so that torch is loaded only for the models that need it.
KINDS = {
    "AMPCF": "amp_cf",
    "EASE": "ease",
    "ItemKNN": "knn",
    "KGAT": "kgat",
    "LightGCN": "lightgcn",
    "MultDAE": "mult_dae",
    "MultVAE": "mult_vae",
    "Nested": "nested",
    "Popularity": "popular",
    "RP3beta": "rp3beta",
    "RecVAE": "rec_vae",
}


def open_saved(folder: str | Path) -> Recommender:
    """Return the model that was saved in `folder`; raises InputError if there is none we know."""
    home = Path(folder)
    try:
        kind = json.loads((home / "model.json").read_bytes())["model"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{home} holds no saved recommender: {error}; save a fitted model there"
        ) from error
    if kind not in KINDS:
        raise InputError(f"{home} holds a {kind!r}; known kinds: {', '.join(sorted(KINDS))}")
    found = getattr(import_module(f"persona_agent.recommend.{KINDS[kind]}"), kind)
    model: Recommender = found.load(home)
    return model
