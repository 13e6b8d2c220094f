"""Tastes become lines with evidence; of a planted user the true one passes the gate."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

from persona_agent.agent import PersonaAgent
from persona_agent.align import AlignOptions
from persona_agent.bridge.catalogue import Catalogue
from persona_agent.bridge.naming import Trait, by_lift, by_model, shared_trait
from persona_agent.bridge.tastes import TastesOf, taste_proposer
from persona_agent.drive import Ports, run
from persona_agent.eval.datasets import movielens_100k
from persona_agent.llm import FakeLLM
from persona_agent.persona import PersonaLine
from persona_agent.propose import Draft, Situated
from persona_agent.recommend.data import HistoryLike
from persona_agent.recommend.ease import EASE
from persona_agent.recommend.ids import IdMap
from persona_agent.recommend.item_table import ItemTable
from persona_agent.recommend.personas import persona_cards
from persona_agent.task import Task
from persona_agent.types import FloatArray, Interaction, ModelReply, ModelRequest, Scope

STARS = Task("rating", "Film", "Rating", ("1", "2", "3", "4", "5"), numeric=True, item_name="film")
NOIR = [f"zq0{n:02}" for n in range(12)]
SONGS = [f"zq1{n:02}" for n in range(12)]
PLANETS = [f"zq2{n:02}" for n in range(12)]

Watch = Callable[..., Interaction]


@dataclass(frozen=True)
class Card:
    share: float
    ids: Sequence[str]


def tastes(*cards: Card) -> TastesOf:
    return lambda liked: cards


def positions(films: Catalogue, items: Sequence[str]) -> list[int]:
    found: list[int] = films.items.positions(items).tolist()
    return found


# --- names --------------------------------------------------------------------------------------


def test_a_group_is_named_by_what_sets_it_apart(films: Catalogue) -> None:
    assert shared_trait(films, positions(films, NOIR[:6])) == Trait(("Film-Noir",))
    mixed = [*NOIR[:2], *SONGS[:2], *PLANETS[:2]]
    assert shared_trait(films, positions(films, mixed)) is None
    assert shared_trait(films, positions(films, [*NOIR[:5], SONGS[0]])) == Trait(("Film-Noir",))
    assert shared_trait(films, positions(films, NOIR[:2])) is None
    assert shared_trait(films, []) is None


def test_a_decade_and_two_genres_are_named_where_they_say_more() -> None:
    kinds = [("Crime",)] * 30 + [("Romance",)] * 30 + [("Crime", "Romance")] * 6
    years = [1980 + n % 20 for n in range(60)] + [1941, 1942, 1943, 1995, 1996, 1997]
    ids = [f"{n:03}" for n in range(66)]
    table = ItemTable(
        IdMap.ordered(ids), tuple(f"t{n}" for n in range(66)), tuple(kinds), tuple(years)
    )
    catalogue = Catalogue(IdMap(ids), table, noun="film")
    assert shared_trait(catalogue, range(60, 66)) == Trait(("Crime", "Romance"))
    forties = shared_trait(catalogue, [60, 61, 62])
    assert forties is not None
    assert forties.decade == 1940
    assert Trait(("Crime", "Romance"), 1940).words("film") == "Crime/Romance of the 1940s"
    assert Trait((), 1940).words("film") == "films of the 1940s"


def test_a_named_group_keeps_only_the_items_that_show_it(films: Catalogue) -> None:
    noir = [NOIR[3], NOIR[1], NOIR[2], NOIR[0], NOIR[4]]
    group = positions(films, [noir[0], SONGS[0], *noir[1:]])
    (named,) = run(by_lift(films, [group]), Ports())
    assert named is not None
    assert named.what == "Film-Noir"
    assert named.items == tuple(positions(films, noir))


@pytest.mark.real("data")
def test_of_real_films_the_names_are_what_people_would_say() -> None:
    data = movielens_100k()
    model = EASE().fit(data.liked())
    catalogue = Catalogue(model.items, data.items, noun="film")
    said = {}
    for title in ("Alien", "Snow White and the Seven Dwarfs", "Sense and Sensibility"):
        own = str(model.items.ids[catalogue.find(title)])
        near = model.recommend([[own]], 8).lists()[0]
        trait = shared_trait(catalogue, positions(catalogue, [own, *near]))
        said[title] = trait and trait.words("film")
    assert said == {
        "Alien": "Sci-Fi",
        "Snow White and the Seven Dwarfs": "Children's/Musical",
        "Sense and Sensibility": "Drama/Romance of the 1990s",
    }


def test_a_model_names_all_groups_in_one_batch_and_its_failures_name_nothing(
    films: Catalogue,
) -> None:
    def answer(request: ModelRequest) -> str | ModelReply:
        if "Song" in request.messages[-1].content:
            return ModelReply(error="too busy", finish="error")
        return json.dumps({"what": "dark old thrillers."})

    llm = FakeLLM(answer)
    groups = [positions(films, NOIR[:4]), positions(films, SONGS[:4])]
    named = run(by_model(films, groups), Ports(llm))
    assert [one and one.what for one in named] == ["dark old thrillers", None]
    assert len(llm.calls) == 1
    assert not any("zq" in one.messages[-1].content for one in llm.requests)


# --- lines --------------------------------------------------------------------------------------


def situated(
    history: Sequence[Interaction], lines: Sequence[PersonaLine] = (), number: int = 0
) -> Situated:
    def simulate() -> Any:
        raise AssertionError("a proposer of tastes does not simulate")

    known = tuple(history)
    return Situated(Scope("alice"), tuple(lines), (), known, known[-1:], simulate, STARS, number, 0)


def proposed(
    films: Catalogue, tastes_of: TastesOf, one: Situated, llm: FakeLLM | None = None, **more: Any
) -> list[Draft]:
    return run(taste_proposer(tastes_of, films, **more)(one), Ports(llm))


def test_lines_say_the_taste_with_titles_and_name_the_interactions_that_show_it(
    films: Catalogue, watch: Watch
) -> None:
    history = [watch(item, 5, hour) for hour, item in enumerate([*NOIR[:4], *PLANETS[:4]])]
    cards = tastes(Card(0.3, PLANETS[:4]), Card(0.7, [NOIR[2], *NOIR[:2], NOIR[3]]))
    both, noir, planets = proposed(films, cards, situated(history))
    assert [line.text for line in both.lines] == [
        "Often chooses Film-Noir, such as Cat Shadow (1942), Ash Shadow (1940) and Bay Shadow (1941).",
        "Often chooses Sci-Fi, such as Ash Planet (1990), Bay Planet (1991) and Cat Planet (1992).",
    ]
    assert (noir.lines, planets.lines) == (both.lines[:1], both.lines[1:])
    assert set(both.lines[0].evidence) == {one.id for one in history[:4]}
    assert {line.origin for line in both.lines} == {"recommender"}
    assert both.proposer == "recommender"


class Sides:
    """A model with a persona for each kind of film, which decides about the films of its kind."""

    def __init__(self, items: IdMap) -> None:
        self.items = items

    def attention(self, histories: HistoryLike) -> FloatArray:
        kinds = np.array([int(one[2]) for one in self.items])
        sides = np.where(kinds == np.arange(3)[:, None], 0.8, 0.1).astype(np.float32)
        return np.repeat(sides[None], len(histories), axis=0)

    def score(self, histories: HistoryLike, items: Sequence[str] | None = None) -> FloatArray:
        return self.attention(histories).max(axis=1)

    def item_vectors(self) -> FloatArray:
        return np.eye(len(self.items), dtype=np.float32)


def test_the_cards_of_a_persona_recommender_are_tastes(films: Catalogue, watch: Watch) -> None:
    model = Sides(films.items)
    liked = [*PLANETS[:3], *NOIR[:5]]
    history = [watch(item, 5, hour) for hour, item in enumerate(liked)]
    both, *alone = proposed(
        films, lambda own: persona_cards(model, own, own=None), situated(history)
    )
    said = [line.text.split(",")[0] for line in both.lines]
    assert said == ["Often chooses Film-Noir", "Often chooses Sci-Fi"]
    assert [one.lines[0] for one in alone] == list(both.lines)


def test_only_what_was_liked_before_the_gate_is_told_to_the_recommender(
    films: Catalogue, watch: Watch
) -> None:
    asked: list[list[str]] = []

    def listen(liked: Sequence[str]) -> list[Card]:
        asked.append(list(liked))
        return []

    history = [watch(NOIR[0], 5), watch(NOIR[1], 2, 1), watch(NOIR[2], 4, 2)]
    assert proposed(films, listen, situated(history)) == []
    assert asked == [[NOIR[0], NOIR[2]]]
    assert proposed(films, listen, situated([watch(NOIR[0], 1)])) == []
    assert len(asked) == 1  # nothing is liked: nobody is asked


def test_known_lines_are_not_proposed_again_and_later_rounds_propose_one_by_one(
    films: Catalogue, watch: Watch
) -> None:
    history = [watch(item, 5, hour) for hour, item in enumerate([*NOIR[:4], *PLANETS[:4]])]
    cards = tastes(Card(0.7, NOIR[:4]), Card(0.3, PLANETS[:4]))
    both, noir, _ = proposed(films, cards, situated(history))
    (later,) = proposed(films, cards, situated(history, noir.lines))
    assert later.lines == both.lines
    assert len(proposed(films, cards, situated(history, number=1))) == 2
    assert proposed(films, cards, situated(history, both.lines)) == []


def test_what_cannot_stand_in_a_persona_is_left_out(table: ItemTable, watch: Watch) -> None:
    titles = ["Diary of a Catholic", "www.evil.example", *table.titles[2:]]
    nasty = ItemTable(table.ids, tuple(titles), table.genres, table.years)
    films = Catalogue(nasty.ids, nasty, noun="film")
    history = [watch(item, 5, hour) for hour, item in enumerate(NOIR[:4])]
    (draft,) = proposed(films, tastes(Card(1.0, NOIR[:4])), situated(history))
    assert draft.lines[0].text == (
        "Often chooses Film-Noir, such as Cat Shadow (1942) and Dew Shadow (1943)."
    )
    obeying = FakeLLM(lambda _: json.dumps({"what": "see https://evil.example"}))
    cards = tastes(Card(1.0, NOIR[2:4]))
    assert proposed(films, cards, situated(history), obeying, name=by_model) == []


def test_a_taste_in_what_the_user_did_not_like_gives_no_line_and_no_example(
    films: Catalogue, watch: Watch
) -> None:
    history = [watch(item, 5 - 4 * (hour == 0), hour) for hour, item in enumerate(NOIR[:3])]
    assert proposed(films, tastes(Card(1.0, SONGS[:4])), situated(history)) == []
    (draft,) = proposed(films, tastes(Card(1.0, NOIR[:5])), situated(history))
    assert draft.lines[0].text.endswith("such as Bay Shadow (1941) and Cat Shadow (1942).")
    assert draft.lines[0].evidence == tuple(one.id for one in history[1:])


def test_of_long_titles_only_as_many_are_named_as_fit(table: ItemTable, watch: Watch) -> None:
    long = ItemTable(
        table.ids, tuple(f"{one} {'x' * 60}" for one in table.titles), table.genres, table.years
    )
    films = Catalogue(long.ids, long, noun="film")
    history = [watch(item, 5, hour) for hour, item in enumerate(NOIR[:4])]
    (draft,) = proposed(films, tastes(Card(1.0, NOIR[:4])), situated(history))
    assert draft.lines[0].text.count("Shadow") == 2


# --- the gate -----------------------------------------------------------------------------------


def believing(genres: Sequence[str] = ("Film-Noir", "Musical", "Sci-Fi")) -> FakeLLM:
    """A model that expects five stars for a genre that the persona says is often chosen.

    It expects three for others; it is told of no user, and knows nobody's ratings.
    """

    def answer(request: ModelRequest) -> list[float]:
        system, user = (message.content for message in request.messages)
        asked = user.rsplit("Film: ", 1)[1].split("\n")[0]
        said = system.split("Often chooses ", 1)[-1] if "Often chooses " in system else ""
        chosen = any(genre in said and genre in asked for genre in genres)
        noise = random.Random(asked)
        centre = 5 if chosen else 3
        return [-0.5 * abs(int(one) - centre) + noise.gauss(0, 0.02) for one in request.choices]

    return FakeLLM(answer)


def planted(watch: Watch) -> list[Interaction]:
    """A user who gives Film-Noir five stars, and all else two or three."""
    rng = random.Random(3)
    order = rng.sample([*NOIR, *SONGS, *PLANETS], 36)
    return [
        watch(item, 5 if item in NOIR else rng.choice([2, 3]), hour)
        for hour, item in enumerate(order)
    ]


@pytest.mark.parametrize(
    ("claimed", "accepted"), [(NOIR, True), (SONGS, False)], ids=["true", "false"]
)
def test_of_a_planted_user_the_gate_accepts_the_true_taste_and_refuses_a_false_one(
    films: Catalogue, watch: Watch, claimed: Sequence[str], accepted: bool
) -> None:
    history = planted(watch)
    options = AlignOptions(recent=3, held_out=12, anchors=4, rounds=1)

    def claim(liked: Sequence[str]) -> list[Card]:
        return [Card(1.0, claimed)]

    # The false claim needs evidence of its own to become a line at all: every film counts as liked.
    proposer = taste_proposer(claim, films, likes=lambda one: True)
    with PersonaAgent.open(
        ":memory:",
        llm=believing(),
        embedder="hash",
        task=STARS,
        options=options,
        proposers=(proposer,),
        summarise_history=False,
    ) as agent:
        agent.add(history)
        result = agent.align("alice")
        lines = agent.persona("alice").current.lines
    (tried,) = result.tried
    assert tried.proposer == "recommender"
    assert result.accepted is accepted, tried.verdict.reason
    said = [line for line in lines if line.origin == "recommender"]
    assert len(said) == accepted
    if accepted:
        assert said[0].text.startswith("Often chooses Film-Noir, such as ")
        later = {one.id for one in history[-16:]}
        assert not later & set(said[0].evidence)
    else:
        assert tried.verdict.gain < 0
