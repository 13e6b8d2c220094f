"""A table of tokens' vectors: a text is the mean of its tokens', without any model to run.

The table is WordLlama's (https://github.com/dleemiller/WordLlama): the input embeddings of large
language models, trained to be averaged. A text takes a tenth of a millisecond, where a sentence
model takes several; order of words and their meaning in context are lost.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from persona_agent.errors import BackendError
from persona_agent.memory.data_packages import INSTALL_LOCAL, data_file
from persona_agent.memory.unit import unit
from persona_agent.types import FloatArray

DIM = 256
PACKAGE = "wordllama"
INSTALL_TABLE = "pip install --no-deps wordllama==0.4.0.post1"


class StaticEmbedder:
    """WordLlama's table of 32,000 tokens, 256 dimensions. Safe to use from many threads."""

    def __init__(self) -> None:
        self._loaded: _Table | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The table's name."""
        return f"wordllama-l2-supercat-{DIM}"

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return DIM

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return an array of shape (len(texts), 256), rows of norm 1; a batch equals its singles.

        Raises BackendError, with the commands to run, if a package is missing.
        """
        if not texts:
            return np.zeros((0, DIM), np.float32)
        with self._lock:
            if self._loaded is None:
                self._loaded = _Table()
        return self._loaded.embed(texts)


class _Table:
    """The vectors and their tokenizer, loaded."""

    def __init__(self) -> None:
        try:
            import tokenizers
            from safetensors.numpy import load_file
        except ImportError as error:
            raise BackendError(
                f"the embedder static needs {error.name}, which is not installed; run: "
                f"{INSTALL_LOCAL}"
            ) from error
        vectors = _file(f"weights/l2_supercat_{DIM}.safetensors")
        vocabulary = _file("tokenizers/l2_supercat_tokenizer_config.json")
        try:
            self._vectors = load_file(vectors)["embedding.weight"]
            self._tokenizer = tokenizers.Tokenizer.from_file(str(vocabulary))
        except Exception as error:  # the libraries raise kinds of their own
            raise BackendError(
                f"the embedder static cannot be loaded from {vectors} and {vocabulary}: {error}; "
                f"reinstall: {INSTALL_TABLE}"
            ) from error
        # By default it keeps ten thousand texts, whole, as words do not part them for it: 50 MB of
        # what users wrote, for texts that hardly come twice. Nothing public turns that off.
        self._tokenizer.model._resize_cache(0)
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return a row a text."""
        rows = np.zeros((len(texts), DIM), np.float32)
        encodings = self._tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        for row, encoding in zip(rows, encodings, strict=True):
            if encoding.ids:
                self._vectors[encoding.ids].sum(axis=0, dtype=np.float32, out=row)
        return unit(rows)


def _file(path: str) -> Path:
    return data_file(
        PACKAGE, path, what="the embedder static needs the table", install=INSTALL_TABLE
    )
