"""Reordering: by the persona, whatever the given order; what fails keeps the recommender's."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.bridge.rerank import (
    MOST,
    SHUFFLES,
    Candidate,
    Reader,
    Reranked,
    Way,
    best,
    fused,
    rerank,
)
from persona_agent.drive import Ports, run, run_many
from persona_agent.llm import FakeLLM
from persona_agent.persona import PersonaLine
from persona_agent.predict import Calibration
from persona_agent.task import Task
from persona_agent.types import Interaction, ModelReply, ModelRequest, Scope

STARS = Task("rating", "Film", "Rating", ("1", "2", "3", "4", "5"), numeric=True, item_name="film")
LIKES = Task("choice", "Film", "Verdict", ("likes it", "leaves it"), item_name="film")
FILMS = [
    Candidate(f"id-{n}", f"{name}, {genre}")
    for n, (name, genre) in enumerate(
        [
            ("Alien", "Horror"),
            ("Once", "Music"),
            ("Saw", "Horror"),
            ("Evita", "Music"),
            ("Heat", "Crime"),
        ]
    )
]
MUSIC_FIRST = ("id-1", "id-3", "id-0", "id-2", "id-4")


def reader(*lines: str) -> Reader:
    return Reader(tuple(PersonaLine(one) for one in lines))


def fan(genre: str) -> FakeLLM:
    """A model that finds high stars likely for what the persona names, if it names `genre`."""

    def answer(request: ModelRequest) -> list[float]:
        system, user = (message.content for message in request.messages)
        good = genre in system and genre in user.rsplit("Film: ", 1)[1]
        weights = [0.0, 0.0, 0.0, 0.0, 4.0] if good else [0.0] * 5
        return (
            weights[-len(request.choices) :]
            if request.choices == STARS.options
            else [
                4.0 if good else 0.0,
                0.0,
            ]
        )

    return FakeLLM(answer)


def reranked(
    llm: FakeLLM,
    who: Reader,
    candidates: Sequence[Candidate] = FILMS,
    k: int = 5,
    *,
    task: Task = STARS,
    wanted: str | None = None,
    way: Way | None = None,
    calibration: Calibration = "none",
    seed: int = 0,
) -> Reranked:
    program = rerank(
        candidates, who, task, k, wanted=wanted, way=way, calibration=calibration, seed=seed
    )
    return run(program, Ports(llm))


def test_what_the_persona_speaks_for_comes_first_and_equals_keep_their_order() -> None:
    found = reranked(fan("Music"), reader("Loves Music"))
    assert found == Reranked(MUSIC_FIRST, "scored")
    assert reranked(fan("Music"), reader("Loves opera")).ids == tuple(one.id for one in FILMS)
    assert reranked(fan("Music"), reader("Loves Music"), k=2).ids == MUSIC_FIRST[:2]


def test_a_task_of_options_is_scored_by_the_wanted_one() -> None:
    who = reader("Loves Music")
    assert reranked(fan("Music"), who, task=LIKES, wanted="likes it").ids == MUSIC_FIRST
    last = reranked(fan("Music"), who, task=LIKES, wanted="leaves it").ids
    assert last == ("id-0", "id-2", "id-4", "id-1", "id-3")


@given(st.permutations(FILMS))
def test_scores_do_not_depend_on_the_place_in_the_list(order: list[Candidate]) -> None:
    llm = fan("Music")
    found = reranked(llm, reader("Loves Music"), order)
    assert set(found.ids[:2]) == {"id-1", "id-3"}
    shown = {one.messages[-1].content for one in llm.requests}
    assert len(shown) == len(FILMS)  # each alone in its prompt
    assert all(sum(one.text in text for one in FILMS) == 1 for text in shown)


def test_a_correction_asks_twice_and_takes_away_what_the_model_says_of_anybody() -> None:
    def popular(request: ModelRequest) -> list[float]:
        text = " ".join(message.content for message in request.messages)
        return [0.0, 0.0, 0.0, 0.0, 3.0 * ("Alien" in text) + ("Music" in text) * ("Loves" in text)]

    who = reader("Loves Music")
    assert reranked(FakeLLM(popular), who).ids[0] == "id-0"
    llm = FakeLLM(popular)
    assert reranked(llm, who, calibration="domain").ids[-1] != "id-0"
    assert len(llm.requests) == 2 * len(FILMS)


def listing(order_of: Callable[[list[str]], object]) -> FakeLLM:
    """A model without log-probabilities that answers lists by a function of their texts."""

    def answer(request: ModelRequest) -> str:
        if request.choices:
            return request.choices[0]
        shown = re.findall(r"^\d+\. (.*)$", request.messages[-1].content, re.MULTILINE)
        return json.dumps({"order": order_of(shown)})

    return FakeLLM(answer)


def music_first(shown: list[str]) -> list[int]:
    return sorted(range(1, len(shown) + 1), key=lambda n: "Music" not in shown[n - 1])


def test_without_log_probabilities_lists_are_ordered_each_in_another_random_order() -> None:
    llm = listing(music_first)
    found = reranked(llm, reader("Loves Music"))
    assert (found.way, found.failed) == ("listed", 0)
    assert set(found.ids[:2]) == {"id-1", "id-3"}
    assert set(found.ids) == {one.id for one in FILMS}
    lists = [one.messages[-1].content for one in llm.calls[-1]]
    assert len(set(lists)) == SHUFFLES == len(lists)
    assert "id-" not in " ".join(lists)


def test_a_model_that_always_favours_the_first_place_decides_nothing() -> None:
    firsts = {
        reranked(listing(lambda shown: [1]), reader(), way="listed", seed=seed).ids[0]
        for seed in range(30)
    }
    assert len(firsts) > 2


@pytest.mark.parametrize("order", [[], [0], [99], ["1"], [1.5], [True], "1"])
def test_a_list_that_names_nothing_leaves_the_order(order: object) -> None:
    found = reranked(listing(lambda _: order), reader(), way="listed")
    if found.failed:
        assert found == Reranked(tuple(one.id for one in FILMS), "listed", SHUFFLES)
    else:
        assert set(found.ids) == {one.id for one in FILMS}


def test_what_fails_stands_behind_what_was_scored() -> None:
    inner = fan("Music")

    def flaky(request: ModelRequest) -> list[float] | ModelReply:
        if "Alien" in request.messages[-1].content:
            return ModelReply(error="too long", finish="error")
        (reply,) = inner.complete([request])
        return list(reply.logprobs or ())

    found = reranked(FakeLLM(flaky), reader("Loves Music"))
    assert found == Reranked(("id-1", "id-3", "id-2", "id-4", "id-0"), "scored", 1)
    broken = FakeLLM(lambda _: ModelReply(error="down", finish="error"))
    assert reranked(broken, reader(), way="scored") == Reranked(
        tuple(one.id for one in FILMS), "scored", len(FILMS)
    )


def test_many_users_are_one_batch_and_equal_singles() -> None:
    who = [reader("Loves Music"), reader("Loves Horror"), reader()]
    llm = fan("Music")
    programs = [rerank(FILMS, one, STARS, 5) for one in who]
    together = [one.unwrap() for one in run_many(programs, Ports(llm))]
    assert len(llm.calls) == 1
    assert together == [reranked(fan("Music"), one) for one in who]


@pytest.mark.parametrize("way", ["scored", "listed"])
def test_the_persona_and_the_past_are_shown_and_ids_are_not(way: Way) -> None:
    when = datetime(2026, 1, 1, tzinfo=UTC)
    past = Interaction(Scope("alice"), when, "Fame, Music", outcome="5", item="id-9")
    who = Reader((PersonaLine("Loves Music"),), (past,))
    llm = listing(music_first)
    reranked(llm, who, way=way)
    text = "\n".join(message.content for message in llm.requests[-1].messages)
    assert "- Loves Music" in text
    assert re.search(r"Fame, Music\W+(Rating: )?5", text)
    assert "id-" not in text


def test_nothing_to_reorder_is_no_request() -> None:
    llm = fan("Music")
    assert reranked(llm, reader(), []) == Reranked((), "scored")
    assert llm.requests == []


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"k": 0}, "k is 0"),
        ({"candidates": [FILMS[0]] * 2}, "a candidate comes twice"),
        ({"candidates": [Candidate(str(n), "x") for n in range(MOST + 1)]}, "at most 50"),
        ({"wanted": "5"}, "none for a numeric one"),
        ({"task": LIKES}, "give `wanted`"),
        ({"task": LIKES, "wanted": "hates it"}, "wanted is 'hates it'"),
    ],
)
def test_what_cannot_be_reordered_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        reranked(fan("Music"), reader(), **change)  # type: ignore[arg-type]


scores = st.dictionaries(st.sampled_from("abcdef"), st.floats(-5, 5))


@given(st.permutations("abcdef"), scores)
def test_the_best_order_is_a_permutation_that_falls(
    order: list[str], found: dict[str, float]
) -> None:
    made = best(order, found)
    assert sorted(made) == sorted(order)
    known = [found[one] for one in made if one in found]
    assert known == sorted(known, reverse=True)
    assert [one for one in made if one not in found] == [one for one in order if one not in found]


@given(st.permutations("abcdef"))
def test_an_order_fused_with_itself_is_itself(order: list[str]) -> None:
    assert fused([order, order]) == tuple(order)
