"""A catalogue: the vectors of items or documents that all users share, searched by meaning.

Metadata filters choose what may be found before the nearest are taken, so that no filter starves
an answer. Ids are the caller's own. Small catalogues are searched exactly; large ones through HNSW
or IVF, where a filter that leaves little is searched exactly among what it leaves.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeAlias

import numpy as np
import numpy.typing as npt

from persona_agent.errors import StoreError
from persona_agent.files import write_whole
from persona_agent.memory.flat import load_faiss
from persona_agent.types import FloatArray, Json, Record, as_json, check_id

Kind: TypeAlias = Literal["flat", "hnsw", "ivf"]
# What may be found: fields and the value, or one of the values, that each must have; or a function.
Filter: TypeAlias = "Mapping[str, Json | Sequence[Json]] | Callable[[Mapping[str, Json]], bool]"

MAGIC = b"PACATAL1"
EXACT = 20_000  # up to here a catalogue is searched exactly: 20 ms at worst, recall 1
FEW = 0.1  # a filter that leaves less than this share is searched exactly, too
NEIGHBOURS, BUILD, SEARCH = 32, 200, 128  # HNSW
PROBED = 0.08  # the share of IVF's lists that a search looks into, at least 16


@dataclass(frozen=True, slots=True)
class CatalogueHit(Record):
    """An entry that was found, and its inner product with the query."""

    id: str
    score: float
    metadata: Mapping[str, Json]


class Catalogue:
    """Entries with an id, a vector of unit length and metadata. Not changed once made.

    Safe to search from many threads.
    """

    def __init__(
        self,
        ids: Sequence[str],
        vectors: FloatArray,
        metadata: Sequence[Mapping[str, Json]] | None = None,
        *,
        kind: Kind | None = None,
        gpu: bool = False,
    ) -> None:
        """Index `vectors`, shape (n, dim), of these ids; `metadata` has one mapping an id.

        `kind` is how large catalogues are searched; None chooses `flat` up to 20,000 entries,
        else `hnsw`. With `gpu`, a `flat` or `ivf` index goes to the GPU that FAISS finds.
        Raises ValueError for repeated ids, other numbers of rows, values that are not finite.
        """
        self.ids = [check_id(one, "catalogue id") for one in ids]
        self.metadata = [{}] * len(ids) if metadata is None else [_plain(one) for one in metadata]
        rows = np.ascontiguousarray(vectors, np.float32)
        if rows.ndim != 2 or len(rows) != len(self.ids) or len(self.metadata) != len(self.ids):
            raise ValueError(
                f"{len(self.ids)} ids, vectors of shape {rows.shape} and {len(self.metadata)} "
                "metadata do not fit together; each entry needs one of each"
            )
        if len(set(self.ids)) != len(self.ids):
            raise ValueError("an id is in the catalogue twice; give each entry once")
        if not np.isfinite(rows).all():
            raise ValueError("vectors hold values that are not finite; they must be numbers")
        self.kind: Kind = kind or ("flat" if len(rows) <= EXACT else "hnsw")
        self._vectors = rows
        self._faiss = load_faiss()
        self._index = _on_gpu(self._faiss, self._build()) if gpu else self._build()

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def dim(self) -> int:
        """The length of a vector."""
        return int(self._vectors.shape[1])

    def search(
        self, queries: FloatArray, k: int, *, where: Filter | None = None
    ) -> list[list[CatalogueHit]]:
        """Return the `k` nearest entries to each query, shape (m, dim), best first.

        Only what `where` admits is found, and `k` of those if there are so many. Of equal scores
        the entry that was given first comes first, among those that the index finds.
        """
        if k < 0:
            raise ValueError(f"k is {k}; it must be 0 or more")
        asked = np.ascontiguousarray(queries, np.float32)
        if asked.ndim != 2 or asked.shape[1] != self.dim:
            raise ValueError(f"queries have shape {asked.shape}; they must have (m, {self.dim})")
        allowed = None if where is None else self._allowed(where)
        left = len(self) if allowed is None else len(allowed)
        k = min(k, left)
        if not k or not len(asked):
            return [[] for _ in asked]
        if allowed is not None and (self.kind == "flat" or left <= max(EXACT, FEW * len(self))):
            scores, places = self._exact(asked, k, allowed)
        else:
            scores, places = self._indexed(asked, k, allowed)
        return [self._hits(*row) for row in zip(scores, places, strict=True)]

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the catalogue to a file, atomically. Raises StoreError; the old file stays then."""
        target = Path(path)
        head = {"kind": self.kind, "ids": self.ids, "metadata": self.metadata, "dim": self.dim}
        text = json.dumps(head).encode()
        body = len(text).to_bytes(8, "little") + text + self._vectors.astype("<f4").tobytes()
        try:
            write_whole(target, MAGIC + hashlib.blake2b(body, digest_size=32).digest() + body)
        except OSError as error:
            raise StoreError(f"the catalogue cannot be saved to {path}: {error}") from error

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, gpu: bool = False) -> Self:
        """Return the catalogue that was saved to a file; its index is built anew.

        Raises StoreError for a file that is absent, damaged or something else.
        """
        try:
            raw = Path(path).read_bytes()
        except OSError as error:
            raise StoreError(f"the catalogue {path} cannot be read: {error}") from error
        body = raw[40:]
        if raw[:8] != MAGIC or hashlib.blake2b(body, digest_size=32).digest() != raw[8:40]:
            raise StoreError(f"{path} is not a whole catalogue; save it again")
        size = int.from_bytes(body[:8], "little")
        head = json.loads(body[8 : 8 + size])
        rows = np.frombuffer(body, "<f4", offset=8 + size).reshape(len(head["ids"]), head["dim"])
        return cls(head["ids"], rows, head["metadata"], kind=head["kind"], gpu=gpu)

    def _build(self) -> Any:  # Any: an index of FAISS
        faiss, dim = self._faiss, self.dim
        if self.kind == "hnsw":
            index = faiss.IndexHNSWFlat(dim, NEIGHBOURS, faiss.METRIC_INNER_PRODUCT)
            index.hnsw.efConstruction, index.hnsw.efSearch = BUILD, SEARCH
        elif self.kind == "ivf":
            lists = max(1, int(4 * len(self) ** 0.5))
            lists = min(lists, max(1, len(self) // 39))  # FAISS wants 39 vectors a list to learn
            index = faiss.IndexIVFFlat(
                faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT
            )
            index.nprobe = min(lists, max(16, int(PROBED * lists)))
            if len(self):
                index.train(self._vectors)
        elif self.kind == "flat":
            index = faiss.IndexFlatIP(dim)
        else:
            raise ValueError(f"kind is {self.kind!r}; it must be flat, hnsw or ivf")
        if len(self):
            index.add(self._vectors)
        return index

    def _allowed(self, where: Filter) -> npt.NDArray[np.int64]:
        """Return the places of the entries that a filter admits."""
        if callable(where):
            admits = where
        else:
            wanted = {
                field: list(value) if isinstance(value, (list, tuple, set)) else [value]
                for field, value in where.items()
            }

            def admits(one: Mapping[str, Json]) -> bool:
                return all(field in one and one[field] in wanted[field] for field in wanted)

        return np.flatnonzero([admits(one) for one in self.metadata])

    def _exact(
        self, queries: FloatArray, k: int, allowed: npt.NDArray[np.int64]
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        scores = queries @ self._vectors[allowed].T
        best = np.argsort(-scores, axis=1, kind="stable")[:, :k]
        return np.take_along_axis(scores, best, axis=1), allowed[best]

    def _indexed(
        self, queries: FloatArray, k: int, allowed: npt.NDArray[np.int64] | None
    ) -> tuple[FloatArray, npt.NDArray[np.int64]]:
        options = None
        if allowed is not None:
            bits = np.zeros(len(self), np.bool_)
            bits[allowed] = True
            packed = np.packbits(bits, bitorder="little")
            selector = self._faiss.IDSelectorBitmap(packed)
            share = len(allowed) / len(self)
            if self.kind == "hnsw":
                options = self._faiss.SearchParametersHNSW(
                    sel=selector, efSearch=int(max(SEARCH, 4 * k) / share)
                )
            else:
                probed = min(self._index.nlist, int(self._index.nprobe / share) + 1)
                options = self._faiss.SearchParametersIVF(sel=selector, nprobe=probed)
        elif self.kind == "hnsw" and 2 * k > SEARCH:
            options = self._faiss.SearchParametersHNSW(efSearch=2 * k)
        scores, places = self._index.search(queries, k, params=options)
        if (places < 0).any():  # the index found too few: nobody is starved
            everything = np.arange(len(self)) if allowed is None else allowed
            return self._exact(queries, k, everything)
        return scores, places

    def _hits(self, scores: FloatArray, places: npt.NDArray[np.int64]) -> list[CatalogueHit]:
        rounded = scores.astype(np.float64).round(6) + 0.0
        order = np.lexsort((places, -rounded))
        return [
            CatalogueHit(self.ids[places[i]], float(rounded[i]), self.metadata[places[i]])
            for i in order
        ]


def _plain(metadata: Mapping[str, Json]) -> dict[str, Json]:
    return {str(key): as_json(value) for key, value in metadata.items()}


def _on_gpu(faiss: Any, index: Any) -> Any:  # Any: FAISS has no types for its GPU part
    """Return the index on all GPUs, if this FAISS knows any and they know this kind of index."""
    if not getattr(faiss, "get_num_gpus", lambda: 0)() or hasattr(index, "hnsw"):
        return index
    return faiss.index_cpu_to_all_gpus(index)
