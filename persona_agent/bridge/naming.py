"""What a group of items has in common, in words: by their attributes, or by a model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeAlias

import numpy as np

from persona_agent import prompts
from persona_agent.bridge.catalogue import Catalogue
from persona_agent.program import Program, complete
from persona_agent.recommend.data import BoolArray
from persona_agent.recommend.ids import IntArray
from persona_agent.types import Json, ModelReply, ModelRequest, Record, Sampling

SHOWN_TO_MODEL = 12
LEAST_ITEMS = 3
LEAST_SHARE = 0.4  # of a group's items, which must have what the group is named after
LEAST_LIFT = 1.5
LEAST_EVIDENCE = 3.0  # nats: about p = .014 for one attribute
WHAT_CHARS = 60
WHAT: dict[str, Json] = {
    "type": "object",
    "properties": {"what": {"type": "string", "minLength": 3, "maxLength": WHAT_CHARS}},
    "required": ["what"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Named(Record):
    """A group in words, as in "Often chooses ...", and the positions of the items that show it."""

    what: str
    items: tuple[int, ...]


# Puts groups of items, by position, into words: one result a group, None where there is no word.
Namer: TypeAlias = Callable[[Catalogue, Sequence[Sequence[int]]], Program[list[Named | None]]]


@dataclass(frozen=True, slots=True)
class Trait(Record):
    """What some items share: genres, the decade they begin with, or both; 0 is no decade."""

    genres: tuple[str, ...]
    decade: int = 0

    def words(self, noun: str) -> str:
        """Return this as the object of a sentence."""
        what = "/".join(self.genres) or f"{noun}s"
        if not self.decade:
            return what
        return prompts.text("lines", "decade", what=what, decade=f"{self.decade}s")


def by_lift(catalogue: Catalogue, groups: Sequence[Sequence[int]]) -> Program[list[Named | None]]:
    """Name each group by the genres and decade that tell it best from the catalogue; no model.

    A name's items are those of the group that have what it is named after, in their order. A
    group that nothing sets apart has no name.
    """
    yield from ()
    named: list[Named | None] = []
    for group in groups:
        trait = shared_trait(catalogue, group)
        if trait is None:
            named.append(None)
            continue
        has = _has(catalogue, trait)
        named.append(Named(trait.words(catalogue.noun), tuple(at for at in group if has[at])))
    return named


def shared_trait(catalogue: Catalogue, group: Sequence[int]) -> Trait | None:
    """Return what sets a group of items apart from the catalogue most; None if nothing does.

    Candidates are one genre or two, a decade, or both. Of those that enough of the items have,
    and that the catalogue has less often by a factor of 1.5, the one with most evidence:
    n KL(share in the group || share in the catalogue), the log-likelihood ratio in nats. Equal
    evidence: the plainer, a genre before a decade, then by name.
    """
    best: tuple[float, Trait] | None = None
    least = max(LEAST_ITEMS, math.ceil(LEAST_SHARE * len(group)))
    at = np.asarray(group, np.int64)
    for trait in _traits(catalogue, group):
        has = _has(catalogue, trait)
        inside, share = int(has[at].sum()), float(has.mean())
        if inside < least or inside / len(group) < LEAST_LIFT * share:
            continue
        evidence = len(group) * _divergence(inside / len(group), share)
        if evidence >= LEAST_EVIDENCE and (best is None or evidence > best[0] + 1e-9):
            best = evidence, trait
    return None if best is None else best[1]


def _traits(catalogue: Catalogue, group: Sequence[int]) -> list[Trait]:
    """Return what items of the group may share, the plainest first, a genre before a decade."""
    genres = sorted({genre for at in group for genre in catalogue.genres[at]})
    years = catalogue.years[np.asarray(group, np.int64)]
    decades = [0, *sorted(set(_decades(years).tolist()) - {0})]
    kinds: list[tuple[str, ...]] = [(), *((one,) for one in genres), *combinations(genres, 2)]
    found = [Trait(kind, decade) for kind in kinds for decade in decades if kind or decade]
    return sorted(found, key=lambda one: (len(one.genres) + bool(one.decade), not one.genres))


def _has(catalogue: Catalogue, trait: Trait) -> BoolArray:
    """Return which items of the catalogue have a trait."""
    has = np.ones(len(catalogue), bool)
    for genre in trait.genres:
        has &= catalogue.has_genre(genre)
    return has & (_decades(catalogue.years) == trait.decade) if trait.decade else has


def _decades(years: IntArray) -> IntArray:
    return years // 10 * 10


def _divergence(p: float, q: float) -> float:
    """Return KL(p || q) of two coins in nats; `q` is above 0, and below 1 if `p` is."""
    parts = [(p, q), (1 - p, 1 - q)]
    return math.fsum(a * math.log(a / b) for a, b in parts if a > 0)


# --- names by a model -------------------------------------------------------------------------


def by_model(catalogue: Catalogue, groups: Sequence[Sequence[int]]) -> Program[list[Named | None]]:
    """Name each group by a model that is shown its titles, all groups in one batch.

    What it writes is a few words within a line that is ours; what cannot be part of one is left
    out, and a group whose request fails has no name.
    """
    requests = [_naming(catalogue, group) for group in groups]
    replies = (yield from complete(requests)) if requests else []
    named: list[Named | None] = []
    for group, reply in zip(groups, replies, strict=True):
        what = prompts.as_data(_what(reply), WHAT_CHARS).rstrip(".,;: ")
        named.append(Named(what, tuple(group)) if what else None)
    return named


def _naming(catalogue: Catalogue, group: Sequence[int]) -> ModelRequest:
    titles = "\n".join(f"- {catalogue.text(at)}" for at in group[:SHOWN_TO_MODEL])
    return ModelRequest(
        prompts.messages("taste", titles=titles, noun=catalogue.noun),
        Sampling(max_tokens=60),
        schema=WHAT,
        purpose="taste",
    )


def _what(reply: ModelReply) -> str:
    if reply.error is not None or not isinstance(reply.parsed, dict):
        return ""
    what = reply.parsed.get("what")
    return what if isinstance(what, str) else ""
