"""Exact search among one user's vectors: the seam to FAISS, an optional part.

FAISS finds the candidates; they are scored again in double precision and ordered here, so that
scores do not depend on how FAISS computes and ties are broken the same way every time.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt

from persona_agent.errors import BackendError, StoreError
from persona_agent.memory.ranking import DECIMALS
from persona_agent.types import FloatArray

INSTALL_CPU = 'pip install "persona-agent-framework[cpu]"'
SPARE = 8  # candidates beyond k
SMALL = 256  # up to so many vectors, a call of FAISS costs more than looking at all
NOISE = 1e-4  # far above the rounding of FAISS's single precision for vectors of unit length


class FlatSearch:
    """Vectors at ranks 0 to n - 1, some of which may be missing; a missing one is never found."""

    def __init__(self) -> None:
        self._faiss = load_faiss()
        self._index: Any = None  # Any: FAISS has no types; None until there is a vector
        self._matrix: FloatArray = np.zeros((0, 0), np.float32)  # FAISS's own memory
        self._room = 0  # rows that FAISS has taken memory for
        self.present = np.zeros(0, np.bool_)
        self.is_whole = True  # whether no vector is missing

    @property
    def dim(self) -> int:
        """The length of a vector; 0 while there is none."""
        return 0 if self._index is None else int(self._index.d)

    @property
    def nbytes(self) -> int:
        """The memory this takes."""
        return self._room * self.dim * 4 + len(self.present)

    @property
    def vectors(self) -> FloatArray:
        """The vectors, shape (n, dim), good until the next change; missing ones mean nothing."""
        if self._index is None:
            return np.zeros((len(self.present), 0), np.float32)
        return self._matrix

    @classmethod
    def filled(
        cls, count: int, ranks: Sequence[int] | npt.NDArray[np.int64], vectors: FloatArray
    ) -> FlatSearch:
        """Return a search over `count` ranks with vectors, shape (m, dim), at `ranks`."""
        flat = cls()
        flat.grow(count)
        flat.put(ranks, vectors)
        return flat

    def grow(self, count: int) -> None:
        """Make room for `count` ranks; the new ones have no vector."""
        more = count - len(self.present)
        self.present = np.concatenate([self.present, np.zeros(more, np.bool_)])
        self.is_whole = self.is_whole and not more
        if self._index is not None:
            self._add(more)

    def clear(self, ranks: Sequence[int]) -> None:
        """Take the vectors at these ranks away."""
        self.present[list(ranks)] = False
        self.is_whole = bool(self.present.all())

    def move(self, old: Sequence[int], new: Sequence[int]) -> None:
        """Move the vectors at ranks to other ranks; those that they leave have none."""
        if not len(old):
            return
        present = self.present[list(old)]
        self.present[list(old)] = False
        self.present[list(new)] = present
        if self._index is not None:
            self._matrix[list(new)] = self._matrix[list(old)]
        self.is_whole = bool(self.present.all())

    def put(self, ranks: Sequence[int] | npt.NDArray[np.int64], vectors: FloatArray) -> None:
        """Set the vectors at these ranks. Raises StoreError for another dimension than before."""
        if not len(ranks):
            return
        if self._index is None:
            self._index = self._faiss.IndexFlatIP(vectors.shape[1])
            self._add(len(self.present))
        self._check(vectors.shape[1], "stored vectors")
        self._matrix[list(ranks)] = vectors
        self.present[ranks if isinstance(ranks, np.ndarray) else list(ranks)] = True
        self.is_whole = bool(self.present.all())

    def search(
        self,
        vector: FloatArray,
        k: int,
        end: int,
        allowed: npt.NDArray[np.bool_] | None,
        weights: npt.NDArray[np.float64] | None = None,
    ) -> list[tuple[int, float]]:
        """Return ranks and scores of the `k` best among the first `end` ranks.

        A score is the inner product; with `weights` from 0 to 1, of length `end`, it is half of
        one more than that, times the weight. `allowed`, of length `end`, says which ranks may be
        found; None is all of them. Best first; of equal scores, to six decimals, the earlier first.
        """
        if not self.is_whole:
            present = self.present[:end]
            allowed = present if allowed is None else allowed & present
        total = end if allowed is None else int(allowed.sum())
        k = min(k, total)
        if k == 0:
            return []
        self._check(len(vector), "the query's vector")
        wanted = min(k + SPARE, total)
        ranks: npt.NDArray[np.int64] | None = None  # None: all that are allowed
        if wanted < total:
            if weights is None and total > SMALL:
                ranks = self._candidates(vector, k, wanted, end, allowed)
            else:
                ranks = self._looked_at(vector, k, wanted, end, allowed, weights)
        if ranks is None:
            ranks = np.arange(end) if allowed is None else np.flatnonzero(allowed)
        scores = self._matrix.take(ranks, 0).astype(np.float64) @ vector.astype(np.float64)
        if weights is not None:
            scores = (1 + scores) / 2 * weights[ranks]
        scores = scores.round(DECIMALS) + 0.0  # no negative zero
        best = np.lexsort((ranks, -scores))[:k]
        return list(zip(ranks[best].tolist(), scores[best].tolist(), strict=True))

    def cosines(self, vector: FloatArray, ranks: Sequence[int]) -> list[float]:
        """Return the inner products with the vectors at ranks, to six decimals; 0 without one."""
        if self._index is None:
            return [0.0] * len(ranks)
        rows = self._matrix[list(ranks)].astype(np.float64)
        scores = (rows @ vector.astype(np.float64)).round(DECIMALS) + 0.0
        found: list[float] = np.where(self.present[list(ranks)], scores, 0.0).tolist()
        return found

    def _looked_at(
        self,
        vector: FloatArray,
        k: int,
        count: int,
        end: int,
        allowed: npt.NDArray[np.bool_] | None,
        weights: npt.NDArray[np.float64] | None,
    ) -> npt.NDArray[np.int64] | None:
        """Return `count` candidates by looking at all, in no order; None if ties may go on beyond."""
        scores: npt.NDArray[np.floating] = self._matrix[:end] @ vector
        if weights is not None:  # FAISS knows none
            scores = (1 + scores) / 2 * weights
        if allowed is not None:
            scores = np.where(allowed, scores, -np.inf)
        if end <= SMALL:  # so few are sorted sooner than parted
            best = scores.argsort()[end - count :]
        else:
            best = np.argpartition(scores, (end - count, end - k))[end - count :]
        tied = scores[best[0]] >= scores[best[count - k]] - NOISE
        return None if tied else best

    def _candidates(
        self,
        vector: FloatArray,
        k: int,
        count: int,
        end: int,
        allowed: npt.NDArray[np.bool_] | None,
    ) -> npt.NDArray[np.int64] | None:
        """Return `count` candidates by FAISS, best first; None if ties may go on beyond."""
        if allowed is not None:
            bits = np.packbits(allowed, bitorder="little")
            selector = self._faiss.IDSelectorBitmap(bits)
        elif end < len(self.present):
            selector = self._faiss.IDSelectorRange(0, end)
        else:
            selector = None
        options = None if selector is None else self._faiss.SearchParameters(sel=selector)
        query = np.ascontiguousarray(vector, np.float32).reshape(1, -1)
        rough, ranks = self._index.search(query, count, params=options)
        found: npt.NDArray[np.int64] = ranks[0]
        return None if rough[0, -1] >= rough[0, k - 1] - NOISE else found

    def _add(self, count: int) -> None:
        size = self._index.ntotal
        self._index.add(np.zeros((count, self._index.d), np.float32))  # never touched: no memory
        if self._index.ntotal > self._room:  # grown as a C++ vector grows
            self._room = max(2 * size, self._index.ntotal)
        flat = self._faiss.rev_swig_ptr(self._index.get_xb(), self._index.ntotal * self._index.d)
        self._matrix = flat.reshape(-1, self._index.d)  # good until the next `add`

    def _check(self, dim: int, what: str) -> None:
        if self._index.d != dim:
            raise StoreError(
                f"{what} have {dim} dimensions; this user's vectors have {self._index.d}: "
                "another embedder of the same name made them"
            )


def load_faiss() -> ModuleType:
    try:
        import faiss
    except ImportError as error:
        raise BackendError(
            f"search by similarity needs FAISS, which is not installed; run: {INSTALL_CPU}"
        ) from error
    module: ModuleType = faiss
    return module
