"""Embedders: from texts to vectors of unit length, in batches.

`minilm` is the default: a small sentence model on the CPU, without torch. `minilm-fast` is the same
model in whole numbers, two to three times as fast where the processor has instructions for them.
`static` is a table of words' vectors: a hundred times as fast, for servers that have few cores.
`hash` needs nothing and knows only words; it is what tests use. `st:MODEL` is any
sentence-transformers model.
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any

import numpy as np

from persona_agent.errors import BackendError
from persona_agent.memory.minilm import MiniLMEmbedder
from persona_agent.memory.static import StaticEmbedder
from persona_agent.memory.unit import unit
from persona_agent.ports import Embedder
from persona_agent.types import FloatArray

EMBEDDERS = "minilm, minilm-fast, static, hash, or st:MODEL"
WORD = re.compile(r"\w+|[^\w\s]")

INSTALL_ST = 'pip install "persona-agent-framework[sentence-transformers]"'


def open_embedder(spec: str, *, threads: int | None = None) -> Embedder:
    """Return the embedder that a specification names: one of EMBEDDERS.

    `threads` are MiniLM's. Raises ValueError for another specification. Models are loaded when
    they are first used.
    """
    if spec in ("minilm", "minilm-fast"):
        return MiniLMEmbedder(threads=threads, fast=spec == "minilm-fast")
    if spec == "static":
        return StaticEmbedder()
    if spec == "hash":
        return HashEmbedder()
    if spec.startswith("st:") and spec != "st:":
        return SentenceTransformerEmbedder(spec.removeprefix("st:"))
    raise ValueError(f"there is no embedder {spec!r}; use {EMBEDDERS}")


class HashEmbedder:
    """Vectors of hashed words and word pairs: deterministic, without a model, for tests.

    Texts that share words are similar; meaning is not known.
    """

    def __init__(self, dim: int = 256) -> None:
        if dim < 2:
            raise ValueError(f"dim is {dim}; it must be at least 2")
        self._dim = dim

    @property
    def name(self) -> str:
        """The name, with the length of its vectors."""
        return f"hash-{self._dim}"

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return self._dim

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return an array of shape (len(texts), dim), rows of norm 1."""
        rows = np.zeros((len(texts), self._dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            words = ["", *WORD.findall(text.lower())]  # the empty word: no row is ever zero
            for gram in [*words, *map(" ".join, pairwise(words))]:
                place, sign = _place(gram, self._dim)
                row[place] += sign
        return unit(rows)


class SentenceTransformerEmbedder:
    """Any model of the sentence-transformers library."""

    def __init__(self, model: str) -> None:
        """Name a model: of a hub, or the path of a folder. It is loaded when first used."""
        self._model = model
        self._loaded: Any = None  # Any: the library has no type stubs here
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The model's name after `st:`."""
        return f"st:{self._model}"

    @property
    def dim(self) -> int:
        """The length of a vector; loads the model."""
        return int(self._load().get_sentence_embedding_dimension())

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return an array of shape (len(texts), dim), rows of norm 1.

        Raises BackendError, with the command to run, if the library or the model is missing.
        """
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        rows = self._load().encode(
            list(texts), convert_to_numpy=True, normalize_embeddings=True, show_progress_bar=False
        )
        return unit(np.asarray(rows, np.float32))

    def _load(self) -> Any:  # Any: see above
        with self._lock:
            if self._loaded is None:
                try:
                    from sentence_transformers import SentenceTransformer
                except ImportError as error:
                    raise BackendError(
                        f"the embedder {self.name} needs sentence-transformers, which is not "
                        f"installed; run: {INSTALL_ST}"
                    ) from error
                try:
                    self._loaded = SentenceTransformer(self._model)
                except (OSError, ValueError) as error:
                    raise BackendError(
                        f"the embedder {self.name} cannot be loaded: {error}"
                    ) from error
            return self._loaded


@lru_cache(maxsize=100_000)
def _place(gram: str, dim: int) -> tuple[int, float]:
    """Return the component that a word goes to, and its sign."""
    number = int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "little")
    return (number >> 1) % dim, 1.0 if number & 1 else -1.0
