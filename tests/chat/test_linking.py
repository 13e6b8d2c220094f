"""Phrases are linked to names by meaning; what is not near enough is no match."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from persona_agent.chat.domain import Domain
from persona_agent.chat.linking import LINK, Linker, link
from persona_agent.drive import Ports, run
from persona_agent.errors import StoreError
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.minilm import MiniLMEmbedder
from persona_agent.recommend.dialogue.table import AttributeTable
from tests.chat.conftest import SCOPE


class Counting(HashEmbedder):
    """Counts the texts that it embeds."""

    texts = 0

    def embed(self, texts):  # type: ignore[no-untyped-def]
        self.texts += len(texts)
        return super().embed(texts)


def test_the_nearest_name_above_the_threshold_is_found(domain: Domain) -> None:
    linker = Linker(domain, HashEmbedder(4096), attribute_threshold=0.4, cache=None)
    musical, nothing = linker.link(["musical film", "purple monkeys"])
    assert musical is not None
    assert (musical.target, musical.id, musical.name) == ("attribute", "genre:Musical", "Musical")
    assert nothing is None
    (item,) = linker.link(["Fox Planet (1960)"])
    assert item is not None
    assert (item.target, item.id) == ("item", "zq205")
    assert linker.link([]) == []


def test_programs_ask_it_as_a_tool(domain: Domain, linker: Linker) -> None:
    assert run(link(SCOPE, []), Ports()) == []
    found = run(link(SCOPE, ["musical film", "xyz"]), Ports(tools={LINK: linker}))
    assert [one and one.id for one in found] == ["genre:Musical", None]
    with pytest.raises(StoreError, match="there is no tool 'link_names'"):
        run(link(SCOPE, ["x"]), Ports())
    with pytest.raises(TypeError, match="must be a list"):
        linker.call(SCOPE, {"phrases": "x"})
    assert json.loads(linker.call(SCOPE, {"phrases": ["xyz"]})) == [None]


def test_names_are_embedded_once_for_the_same_domain_and_embedder(
    domain: Domain, tmp_path: Path
) -> None:
    first = Linker(domain, HashEmbedder(), cache=tmp_path)
    again = Counting()
    second = Linker(domain, again, cache=tmp_path)
    assert again.texts == 0
    assert second.link(["musical film"]) == first.link(["musical film"])
    Linker(domain, HashEmbedder(128), cache=tmp_path)
    assert len(list(tmp_path.glob("*.catalogue"))) == 2


@pytest.mark.real("embedder")
def test_the_real_embedder_knows_what_is_meant() -> None:
    table = AttributeTable.of(
        [("a", "Horror"), ("b", "Musical"), ("c", "Western"), ("d", "Sci-Fi"), ("e", "Romance")],
        item_names={"a": "The Ring", "b": "Airplane!", "c": "Shane", "d": "Alien", "e": "Ghost"},
    )
    linker = Linker(Domain.of("films", table, noun="film"), MiniLMEmbedder(threads=1), cache=None)
    phrases = [
        "scary",
        "singing dancing",
        "the wild west",
        "science fiction",
        "love story",
        "tax return",
        "printer ink",
    ]
    found = [None if one is None else one.id for one in linker.link(phrases)]
    assert found == ["Horror", "Musical", "Western", "Sci-Fi", "Romance", None, None]
