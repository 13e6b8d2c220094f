"""Reranking: a callable of the caller's has the last word on what searches found."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from persona_agent.errors import BackendError
from persona_agent.memory.lookup import Hit
from persona_agent.ports import Reranker
from persona_agent.types import Interaction, RecallRequest

POOL = 32


def pool_of(request: RecallRequest) -> int:
    """Return how many memories a reranker chooses the request's `k` from."""
    return max(POOL, 4 * request.k) if request.k and request.query else request.k


def rerank(
    reranker: Reranker,
    requests: Sequence[RecallRequest],
    found: Sequence[list[tuple[Interaction, Hit]]],
) -> list[list[tuple[Interaction, Hit]]]:
    """Return what each search found by the reranker's scores, the best `k`; the rest as it is.

    All pairs of all requests are scored in one call. Of equals, the one found better stays first.
    Raises BackendError for another number of scores, or one that is not a number.
    """
    searched = [
        place
        for place, request in enumerate(requests)
        if request.mode != "recent" and request.query and found[place]
    ]
    pairs = [
        (requests[place].query, hit.text(one)) for place in searched for one, hit in found[place]
    ]
    scores = [float(score) for score in reranker(pairs)] if pairs else []
    if len(scores) != len(pairs) or any(math.isnan(score) for score in scores):
        raise BackendError(
            f"the reranker gave {len(scores)} scores for {len(pairs)} pairs; it must give one "
            "number a pair"
        )
    ranked = list(found)
    left = iter(scores)
    for place in searched:
        scored = [(one, _with(hit, next(left))) for one, hit in found[place]]
        scored.sort(key=lambda pair: -pair[1].score)
        ranked[place] = scored[: requests[place].k]
    return ranked


def _with(hit: Hit, score: float) -> Hit:
    told = hit.explanation
    return hit._replace(
        score=score, explanation=None if told is None else replace(told, rerank=score)
    )
