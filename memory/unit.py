"""Vectors of length 1."""

from __future__ import annotations

import numpy as np

from persona_agent.types import FloatArray


def unit(rows: FloatArray) -> FloatArray:
    """Return rows of norm 1; a row of zeros becomes the first axis, so that all have a direction."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.where(norms > 0, rows / np.where(norms > 0, norms, 1), 0)
    rows[norms[:, 0] == 0, 0] = 1
    return rows.astype(np.float32)
