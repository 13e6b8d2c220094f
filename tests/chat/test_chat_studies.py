"""The studies: counts by hand on a small part, and real films end to end."""

from __future__ import annotations

from collections import Counter

import pytest

from persona_agent.chat.deciding import Policy
from persona_agent.chat.domain import Domain
from persona_agent.chat.reading import read
from persona_agent.chat.state import MEANINGS, ChatState, Opinion
from persona_agent.chat.words import shipped
from persona_agent.drive import Ports, run
from persona_agent.eval.chat import answers, mentions, start
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.types import Scope
from tests.chat.conftest import meaning


def quiet(stage: str, done: int, due: int) -> None:
    """Tell nobody."""


def test_the_set_has_a_hundred_answers_of_every_meaning_and_none_of_the_examples() -> None:
    test, dev = answers.load("test"), answers.load("dev")
    assert len(test) >= 100
    assert set(Counter(one.meaning for one in test)) == set(MEANINGS)
    assert len({one.language for one in test}) >= 10
    assert not {one.text for one in test} & {one.text for one in dev}
    with pytest.raises(ValueError, match="there are dev and test"):
        answers.load("train")


def test_shares_and_confusion_are_counts() -> None:
    found = answers.measure(FakeLLM(meaning), HashEmbedder(), "dev", quiet)
    given = answers.load("dev")
    used = found.arms[answers.IN_USE]
    assert sum(sum(row.values()) for row in used.confusion.values()) == found.answers == len(given)
    hits = sum(used.confusion[one][one] for one in MEANINGS)
    assert used.right.mean == pytest.approx(hits / len(given))
    assert len(found.wrong) == len(given) - hits
    words = [shipped().quick(one.text) for one in given]
    assert found.by_words == sum(one is not None for one in words)


def test_a_simulated_person_finds_what_they_want_or_gives_up(domain: Domain) -> None:
    ended = start.converse(domain, "zq105", (), ChatState("films", "1"), Policy())
    assert (ended.outcome, ended.accepted) == ("accepted", "zq105")
    assert ended.turn <= start.MOST_TURNS
    assert all(
        (one.meaning == "yes") == (one.id in domain.attributes_of("zq105"))
        for one in ended.opinions
    )
    known = (Opinion("attribute", "genre:Musical", "yes", 0),)
    warm = start.converse(domain, "zq105", (), ChatState("films", "2", opinions=known), Policy())
    assert warm.turn <= ended.turn
    lost = start.converse(domain, "zq105", ("zq105",), ChatState("films", "3"), Policy())
    assert (lost.outcome, lost.turn) == ("open", start.MOST_TURNS)


@pytest.mark.real("data")
def test_the_study_of_starting_from_memory_runs_on_real_films() -> None:
    found = start.measure(start.Settings(users=4), quiet)
    assert found.users <= 4
    assert next(iter(found.arms)) == start.COLD
    assert all(one.turns.mean <= start.MOST_TURNS for one in found.arms.values())
    assert found.arms[start.COLD].saved is None


def test_phrases_are_counted_as_linked_missed_or_false(domain: Domain) -> None:
    assert {part: len(mentions.load(part)) for part in ("dev", "test")} == {"dev": 67, "test": 67}
    with pytest.raises(ValueError, match="there are dev and test"):
        mentions.load("train")


def test_reading_nothing_asks_nothing() -> None:
    assert run(read(Scope("ann"), [], None), Ports(FakeLLM(meaning))) == []
