"""How well phrases that name nothing exactly are linked to genres and decades, or to nothing."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from importlib.resources import files

from persona_agent.chat.domain import Domain
from persona_agent.chat.linking import Linker
from persona_agent.errors import InputError
from persona_agent.ports import Embedder
from persona_agent.types import Record

NONE = "-"


@dataclass(frozen=True, slots=True)
class Report(Record):
    """How many phrases that mean something are linked right and wrong, and falsely of the others.

    `mistakes` are phrase, what it means, and what it was linked to.
    """

    part: str
    meant: int
    right: int
    wrong: int
    meaningless: int
    false: int
    mistakes: tuple[tuple[str, str, str], ...]


def load(part: str) -> list[tuple[str, str]]:
    """Return phrases and the attribute that each means, "-" for none; of a part, dev or test."""
    source = files("persona_agent.eval.chat").joinpath("mentions.tsv")
    rows = csv.DictReader(source.read_text(encoding="utf-8").splitlines(), delimiter="\t")
    found = [(row["phrase"], row["attribute"]) for row in rows if row["part"] == part]
    if not found:
        raise ValueError(f"there is no part {part!r}; there are dev and test")
    return found


def measure(domain: Domain, embedder: Embedder, part: str) -> Report:
    """Return how the phrases of a part are linked by the search alone, without exact names."""
    pairs = load(part)
    for _, attribute in pairs:
        if attribute != NONE and attribute not in domain.table.attributes:
            raise InputError(f"mentions.tsv names {attribute!r}, which the domain does not have")
    links = Linker(domain, embedder).link([phrase for phrase, _ in pairs])
    made = [
        (phrase, meant, NONE if one is None else one.id)
        for (phrase, meant), one in zip(pairs, links, strict=True)
    ]
    some = [one for one in made if one[1] != NONE]
    none = [one for one in made if one[1] == NONE]
    return Report(
        part,
        len(some),
        sum(meant == got for _, meant, got in some),
        sum(got not in (meant, NONE) for _, meant, got in some),
        len(none),
        sum(got != NONE for _, _, got in none),
        tuple(one for one in made if one[1] != one[2]),
    )
