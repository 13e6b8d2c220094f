"""Phrases linked to the attributes and items of a domain, by meaning, with a threshold."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from persona_agent.chat.domain import Domain
from persona_agent.chat.state import Target
from persona_agent.errors import StoreError
from persona_agent.memory.catalogue import Catalogue
from persona_agent.ports import Embedder
from persona_agent.program import Program, call_tool
from persona_agent.types import Json, Record, Scope

LINK = "link_names"
CACHE = Path("~/.cache/persona-agent/catalogues")
ATTRIBUTE_THRESHOLD = 0.385  # of the cosine; how they were chosen is in docs/chat.md
ITEM_THRESHOLD = 0.75
TARGETS: tuple[Target, ...] = ("attribute", "item")
PARAMETERS: Mapping[str, Json] = {
    "type": "object",
    "properties": {"phrases": {"type": "array", "items": {"type": "string"}}},
    "required": ["phrases"],
    "additionalProperties": False,
}


@dataclass(frozen=True, slots=True)
class Link(Record):
    """What a phrase was linked to, and the cosine of the two."""

    phrase: str
    target: Target
    id: str
    name: str
    score: float


class Linker:
    """Finds the attribute or item that a phrase means; a tool, so that programs can ask it.

    An attribute's vector is that of its name and the noun ("Western film"), so that words with
    several meanings are near the one meant here; an item's is that of its title. The vectors are
    made once and kept in a file named after all that they depend on.
    """

    def __init__(
        self,
        domain: Domain,
        embedder: Embedder,
        *,
        attribute_threshold: float = ATTRIBUTE_THRESHOLD,
        item_threshold: float = ITEM_THRESHOLD,
        cache: Path | None = CACHE,
    ) -> None:
        """Embed the domain's names, or load them; `cache` None keeps nothing."""
        self._domain = domain
        self._embedder = embedder
        self._least: Mapping[str, float] = {
            "attribute": attribute_threshold,
            "item": item_threshold,
        }
        self._catalogue = self._load(cache)

    @property
    def name(self) -> str:
        """How programs call it."""
        return LINK

    @property
    def description(self) -> str:
        """What it does."""
        return f"Finds which {self._domain.noun} or which of their attributes each phrase means."

    @property
    def parameters(self) -> Mapping[str, Json]:
        """A JSON schema of its arguments."""
        return PARAMETERS

    def call(self, scope: Scope, arguments: Mapping[str, Json]) -> str:
        """Return the links of the phrases, as JSON: an object or null each."""
        phrases = arguments["phrases"]
        if not isinstance(phrases, list):
            raise TypeError(f"phrases is {phrases!r}; it must be a list of texts")
        found = self.link([str(one) for one in phrases])
        return json.dumps([None if one is None else one.to_json() for one in found])

    def link(self, phrases: Sequence[str]) -> list[Link | None]:
        """Return what each phrase means, None where nothing is near enough."""
        if not phrases:
            return []
        vectors = self._embedder.embed(list(phrases))
        attributes = self._catalogue.search(vectors, 1, where={"target": "attribute"})
        items = self._catalogue.search(vectors, 1, where={"target": "item"})
        links: list[Link | None] = []
        for phrase, *found in zip(phrases, attributes, items, strict=True):
            near = [
                Link(phrase, target, hit.id.partition(":")[2], str(hit.metadata["name"]), hit.score)
                for target, hits in zip(TARGETS, found, strict=True)
                for hit in hits
                if hit.score >= self._least[target]
            ]
            links.append(near[0] if near else None)
        return links

    def _load(self, cache: Path | None) -> Catalogue:
        domain = self._domain
        attributes = [
            (f"attribute:{one}", f"{name} {domain.noun}", domain.attribute(one))
            for one, name in zip(domain.table.attributes, domain.table.attribute_names, strict=True)
        ]
        titled = [
            one
            for one, is_titled in zip(domain.table.items, domain.catalogue.titled, strict=True)
            if is_titled
        ]
        items = [(f"item:{one}", domain.item(one), domain.item(one)) for one in titled]
        rows = [*attributes, *items]
        path = None if cache is None else cache.expanduser() / f"{self._digest(rows)}.catalogue"
        if path is not None and path.is_file():
            return Catalogue.load(path)
        metadata: list[dict[str, Json]] = [
            {"target": one.partition(":")[0], "name": name} for one, _, name in rows
        ]
        vectors = self._embedder.embed([text for _, text, _ in rows])
        made = Catalogue([one for one, _, _ in rows], vectors, metadata)
        if path is not None:
            try:
                path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise StoreError(f"{path.parent} cannot be made: {error.strerror}") from error
            made.save(path)
        return made

    def _digest(self, rows: Sequence[tuple[str, str, str]]) -> str:
        text = json.dumps([self._embedder.name, self._embedder.dim, rows])
        return hashlib.sha256(text.encode()).hexdigest()[:24]


def link(scope: Scope, phrases: Sequence[str]) -> Program[list[Link | None]]:
    """Return what each phrase means; asks the tool only if there are phrases.

    Raises StoreError if the tool failed.
    """
    if not phrases:
        return []
    reply = yield from call_tool(scope, LINK, {"phrases": list(phrases)})
    if reply.error is not None:
        raise StoreError(f"names could not be looked up: {reply.error}")
    return [None if one is None else Link(**one) for one in json.loads(reply.text)]
