"""What is learned from a history: outcomes after what was before them, and nothing later."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as some

from persona_agent.distil import Trace
from persona_agent.errors import NotEnoughData
from persona_agent.llm.wire import plain_text
from persona_agent.predict import Job, requests_of
from persona_agent.task import Task, situation
from persona_agent.train.examples import Example, examples
from persona_agent.train.options import METHODS, TrainOptions
from persona_agent.types import Interaction, Message

Rated = Callable[..., list[Interaction]]
TRACE = Trace("ann-3", (Message("user", "Film: X"),), "Ann likes dramas [1].", "5", (), None)


def render(messages: Sequence[Message]) -> str:
    return "".join(f"<{one.role}>{one.content}" for one in messages) + "<assistant>"


def learned(example: Example) -> list[str]:
    return [example.text[slice(*span)] for span in example.learned]


def test_an_outcome_is_learned_after_the_very_prompt_that_asks_for_it(
    ratings: Rated, rating_task: Task
) -> None:
    history = ratings("ann", 10)
    first, second = examples(history, rating_task, TrainOptions(window=6))
    assert learned(first) == [one.outcome for one in history[:6]]
    assert learned(second) == [one.outcome for one in history[6:]]
    for place, (begin, _) in enumerate(second.learned):
        job = Job((), tuple(history[6 : 6 + place]), situation(history[6 + place], rating_task))
        (request,) = requests_of([job], rating_task)
        assert second.text[:begin] == plain_text(request)
    assert second.events == tuple(one.id for one in history[6:])


@given(count=some.integers(1, 30), cut=some.integers(0, 30), window=some.integers(1, 9))
@pytest.mark.parametrize("method", METHODS)
def test_nothing_from_the_cut_on_is_in_any_example(
    method: str, count: int, cut: int, window: int
) -> None:
    from tests.train.conftest import RATING, START, rated

    history = [
        replace(one, query=f"{one.query} number {i:03}")
        for i, one in enumerate(rated("ann", count))
    ]
    traces = [replace(TRACE, event=one.id) for one in history] if method == "traces" else []
    options = TrainOptions(method=method, window=window)  # type: ignore[arg-type]
    try:
        made = examples(
            history, RATING, options, cut=START + timedelta(hours=cut), traces=traces, render=render
        )
    except NotEnoughData:
        assert cut == 0
        return
    later = [f"number {i:03}" for i in range(cut, count)]
    for one in made:
        assert not any(mark in one.text for mark in later)
        assert {int(event.split("-")[1]) for event in one.events} <= set(range(cut))
        assert all(a < b for a, b in one.learned)
    if method in ("tft", "dpo", "simpo"):
        assert sum(len(one.learned) for one in made) == min(cut, count)


def test_a_history_out_of_order_is_refused(ratings: Rated, rating_task: Task) -> None:
    with pytest.raises(ValueError, match=r"'ann-1' is earlier than 'ann-2'"):
        examples(ratings("ann", 3)[::-1][0:2], rating_task, TrainOptions())


def test_a_preference_is_for_what_was_chosen(ratings: Rated, rating_task: Task) -> None:
    history = ratings("ann", 5)
    made = examples(history, rating_task, TrainOptions(method="dpo"))
    tuned = examples(history, rating_task, TrainOptions())
    assert [replace(one, rejected=()) for one in made] == tuned  # it reads what tuning reads
    (one,) = made
    assert len(one.rejected) == len(one.learned) == 5
    for chosen, other in zip(learned(one), one.rejected, strict=True):
        assert other != chosen
        assert other in rating_task.options
    assert made != examples(history, rating_task, TrainOptions(method="dpo", seed=1))
    mixed = [history[0], *(replace(one, options=("2", "5")) for one in history[1:])]
    some = examples(mixed, Task("words"), TrainOptions(method="dpo"))
    assert [event for one in some for event in one.events] == [one.id for one in history[1:]]
    free = [replace(one, outcome="words") for one in history]
    with pytest.raises(NotEnoughData, match="nothing to learn by 'simpo'"):
        examples(free, Task("words"), TrainOptions(method="simpo"))


def test_inputs_and_texts_are_the_users_own(ratings: Rated, rating_task: Task) -> None:
    said, told, titled = ratings("ann", 3)
    told = replace(told, role="assistant")
    titled = replace(titled, response="A model's words", metadata={"title": "On films"})
    history = [said, told, titled]
    (inputs,) = examples(history, rating_task, TrainOptions(method="cig"))
    assert learned(inputs) == [said.query, titled.query]
    assert f"Text (On films): {titled.query}" in inputs.text
    (texts,) = examples(history, rating_task, TrainOptions(method="ntp"))
    assert learned(texts) == [f"{said.query}\n{said.outcome}\n\n{titled.query}\n{titled.outcome}"]
    assert "A model's words" not in inputs.text + texts.text


def test_thoughts_are_mixed_one_to_one_with_plain_answers(
    ratings: Rated, rating_task: Task
) -> None:
    history = ratings("ann", 40)
    traces = [replace(TRACE, event=f"ann-{i}") for i in (1, 2, 99)]
    traces[0] = replace(traces[0], cites=("a line",), shown=("ann-0",))
    options = TrainOptions(method="traces", window=4)
    plain, thought, more, other = examples(
        history, rating_task, options, traces=traces, render=render
    )
    assert learned(thought) == ["<think>\nAnn likes dramas [1].\n</think>\n5"]
    assert thought.text.startswith("<user>Film: X<assistant>")
    assert (thought.events, other.events) == (("ann-0", "ann-1"), ("ann-2",))
    assert len(plain.learned) == len(more.learned) == 4
    with pytest.raises(NotEnoughData, match="no trace"):
        examples(history, rating_task, options)
    with pytest.raises(ValueError, match="give render"):
        examples(history, rating_task, options, traces=traces)
    with pytest.raises(ValueError, match="traces are given, but the method is 'tft'"):
        examples(history, rating_task, TrainOptions(), traces=traces)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"method": "rlhf"}, "one of ntp, cig, tft, traces, dpo, simpo"),
        ({"rank": 0}, "rank is 0; it must be at least 1"),
        ({"dropout": 1.0}, "below 1"),
        ({"rate": -1.0}, "above 0"),
        ({"targets": ()}, "such as q_proj"),
    ],
)
def test_options_that_cannot_be_are_refused(wrong: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TrainOptions(**wrong)  # type: ignore[arg-type]
