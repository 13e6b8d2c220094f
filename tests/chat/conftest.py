"""A small world: 36 films of three genres from three decades, and people who like one kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from itertools import count
from typing import TypeAlias

import numpy as np
import pytest

from persona_agent.chat.deciding import Policy
from persona_agent.chat.domain import Domain
from persona_agent.chat.hearing import Names
from persona_agent.chat.linking import Linker
from persona_agent.chat.session import ChatSession
from persona_agent.chat.turn import Setting
from persona_agent.chat.words import shipped
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.store import Store
from persona_agent.recommend.data import Interactions
from persona_agent.recommend.dialogue.table import attributes_of
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.item_table import ItemTable
from persona_agent.types import ModelRequest, Scope

START = datetime(2026, 1, 1, tzinfo=UTC)
KINDS = {"Film-Noir": "Shadow", "Musical": "Song", "Sci-Fi": "Planet"}
WORDS = "Ash Bay Cat Dew Elm Fox Gem Hat Ink Jam Key Log".split()
SCOPE = Scope("ann")

Open: TypeAlias = Callable[..., ChatSession]


def film(kind: int, number: int) -> str:
    """The id of a film; it looks like nothing else that stands in a text."""
    return f"zq{kind}{number:02}"


def meaning(request: ModelRequest) -> str:
    """Read an answer as a model does that knows four words."""
    said = request.messages[-1].content.rpartition("Answer: ")[2].partition("\n")[0].casefold()
    known = {"splendid": "yes", "dreadful": "no", "undecided": "unsure"}
    return next((means for word, means in known.items() if word in said), "other")


@pytest.fixture(scope="session")
def domain() -> Domain:
    rows = [
        (film(kind, number), f"{word} {noun}", (genre,), 1940 + 10 * (number % 3))
        for kind, (genre, noun) in enumerate(KINDS.items())
        for number, word in enumerate(WORDS)
    ]
    ids, titles, genres, years = zip(*rows, strict=True)
    films = ItemTable(IdMap.ordered(ids, "item"), titles, genres, years)
    rng = np.random.default_rng(0)
    pairs = [
        (f"u{person:02}", film(person % 3, int(one)))
        for person in range(60)
        for one in rng.choice(len(WORDS), 8, replace=False)
    ]
    users, items = zip(*pairs, strict=True)
    return Domain.of(
        "films",
        attributes_of(films),
        noun="film",
        model=EASE(l2=20.0).fit(Interactions.of(users, items)),
        years=dict(zip(ids, years, strict=True)),
        asks={"genre": "mood", "decade": "decade"},
        aliases={"genre:Sci-Fi": ("science fiction",)},
    )


@pytest.fixture(scope="session")
def names(domain: Domain) -> Names:
    return Names(domain, shipped())


@pytest.fixture(scope="session")
def linker(domain: Domain) -> Linker:
    return Linker(domain, HashEmbedder(4096), cache=None)


@pytest.fixture
def setting(domain: Domain, names: Names) -> Setting:
    return Setting(domain, names, SCOPE, policy=Policy(worth=0.5, least_bits=0.05))


@pytest.fixture
def memory() -> Iterator[EpisodicMemory]:
    with Store.open(":memory:") as store:
        yield EpisodicMemory(store, HashEmbedder())


@pytest.fixture
def talk(domain: Domain, linker: Linker, memory: EpisodicMemory) -> Open:
    """Opens a conversation of Ann's; the clock moves on by a minute whenever it is read."""
    minutes = count()

    def opened(**options: object) -> ChatSession:
        given = {
            "linker": linker,
            "clock": lambda: START + timedelta(minutes=next(minutes)),
            **options,
        }
        llm = given.pop("llm", FakeLLM(meaning))
        return ChatSession(domain, memory, llm, SCOPE, **given)  # type: ignore[arg-type]

    return opened
