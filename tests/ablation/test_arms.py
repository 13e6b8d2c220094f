"""Arms by name: what there is, what each shows, and that no prompt holds what it must not."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from persona_agent.drive import Ports, run
from persona_agent.errors import BackendError
from persona_agent.eval import movielens
from persona_agent.eval.ablation import knowing
from persona_agent.eval.ablation.arms import arm_of, known_names
from persona_agent.eval.ablation.knowing import Options
from persona_agent.eval.ablation.run import Settings
from persona_agent.eval.ablation.study import Ablation, ablate
from persona_agent.eval.ablation.world import world_of
from persona_agent.eval.tasks.task_set import TaskSet
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.task import Task
from persona_agent.types import ModelRequest

Runs = Callable[..., Ablation]
MODEL_FREE = 2
NAMES = (
    "none", "recent-8", "similar-3", "hybrid-2", "profile-only", "recent-8+profile", "summary",
    "facts", "persona", "persona-aligned", "aligned-ungated", "aligned-gate-metric",
    "persona-random-user", "persona-similar-user-25", "shuffled-outcomes", "think-generic",
    "personaagent", "personaagent-no-memory", "persona-aligned@rounds=2:memories=4",
)  # fmt: skip


def prompt(request: ModelRequest) -> str:
    return "\n".join(message.content for message in request.messages)


def asked(llm: FakeLLM, purpose: str = "predict") -> list[ModelRequest]:
    return [one for one in llm.requests if one.purpose == purpose]


@pytest.mark.parametrize("name", [*NAMES, "label-prior", "user-item-bias"])
def test_an_arm_has_its_name_and_says_what_it_is(name: str) -> None:
    arm = arm_of(name, Options(), movielens.RATING)
    assert arm.name == name
    assert arm.about


def test_an_unknown_arm_is_refused_with_all_the_names() -> None:
    with pytest.raises(ValueError, match="no arm 'recent-x'; there are label-prior") as told:
        arm_of("recent-8+recent-x", Options(), movielens.RATING)
    assert all(name in str(told.value) for name in known_names())


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("none@rounds=2", "does not take the option 'rounds'; it takes none"),
        ("shuffled-outcomes@rounds=2", "it takes memories"),
        ("persona-aligned@rounds=many", "int is due"),
        ("label-prior@seed=1", "takes no options"),
        ("lora-tft", "needs adapters that were trained by 'tft'; there are none"),
        ("prime", "needs adapters"),
    ],
)
def test_what_an_arm_does_not_take_is_refused(name: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        arm_of(name, Options(), movielens.RATING)


def test_biases_need_a_task_of_numbers() -> None:
    with pytest.raises(ValueError, match="predicts numbers"):
        arm_of("user-item-bias", Options(), Task("words"))


def test_every_arm_predicts_every_query_and_no_prompt_tells_the_truth(
    runs: Runs, small: TaskSet, new_llm: Callable[[], FakeLLM]
) -> None:
    llm = new_llm()
    found = runs(*NAMES, "user-item-bias", llm=llm)
    assert {one.error for one in found.run.spent} == {None}
    counts = Counter(one.arm for one in found.run.examples)
    assert set(counts.values()) == {12}
    assert len(counts) == len(NAMES) + MODEL_FREE
    later = {query.query for query in small.queries}
    for request in asked(llm):
        text = prompt(request)
        shown = [one for one in later if one in text]
        assert text.count("Rating: \n") <= 1
        assert len(shown) <= 1  # the query itself, never another one
        if shown and request.template is False:
            assert text.rstrip().endswith("Rating:")


def test_what_an_arm_shows_is_what_its_name_says(
    runs: Runs, new_llm: Callable[[], FakeLLM]
) -> None:
    llm = new_llm()
    runs("recent-3", llm=llm)
    assert {prompt(one).count("Film: ") for one in asked(llm)} == {4}
    llm = new_llm()
    runs("none", llm=llm)
    assert {prompt(one).count("Film: ") for one in asked(llm)} == {1}
    assert not any("About this person" in prompt(one) for one in asked(llm))
    llm = new_llm()
    runs("recent-3+profile", llm=llm)
    assert all("On average gives" in prompt(one) for one in asked(llm))
    assert {prompt(one).count("Film: ") for one in asked(llm)} == {4}


def test_shuffled_outcomes_are_the_same_outcomes_elsewhere(
    runs: Runs, small: TaskSet, new_llm: Callable[[], FakeLLM]
) -> None:
    world = world_of(small, small.sample(users=3), HashEmbedder(), 0, {})
    for person in world.people.values():
        known = run(knowing.shuffled(person, world, Options()), Ports())
        real = {one.id: one.outcome for one in person.history}
        assert Counter(known.outcomes.values()) == Counter(real.values())
        assert known.outcomes != real
    llm = new_llm()
    runs("shuffled-outcomes@memories=5", "recent-5", llm=llm)
    prompts = {prompt(one) for one in asked(llm)}
    unrated = {re.sub(r"Rating: \d", "", one) for one in prompts}
    assert len(prompts) > len(unrated) == 12


def test_the_persona_of_another_takes_the_place_of_ones_own(
    runs: Runs, new_llm: Callable[[], FakeLLM]
) -> None:
    own, others = new_llm(), new_llm()
    runs("persona", llm=own)
    runs("persona-similar-user", llm=others)
    mine = {one.messages[0].content for one in asked(own)}
    theirs = {one.messages[0].content for one in asked(others)}
    assert theirs <= mine
    same = {prompt(one) for one in asked(own)} & {prompt(one) for one in asked(others)}
    assert not same


def test_an_adapter_is_asked_for_by_method_and_user(
    small: TaskSet, tmp_path: Path, new_llm: Callable[[], FakeLLM]
) -> None:
    llm = new_llm()
    methods = ("tft", "traces")
    adapters = {one: {user: f"{one}-{user}" for user in small.users} for one in methods}
    settings = Settings(("dual", "lora-tft", "prime", "pkr"), users=3, queries=1)
    found = ablate(
        small, llm, settings, tmp_path, model="m", embedder=HashEmbedder(), adapters=adapters
    )
    assert {one.error for one in found.run.spent} == {None}
    used = {one.adapter for one in asked(llm)}
    assert used <= {*adapters["tft"].values(), *adapters["traces"].values(), None}
    assert len(used - {None}) == 6
    tuned = [one for one in asked(llm) if one.adapter]
    assert {prompt(one).count("Film: ") for one in tuned if not one.template} == {1, 9}


def test_a_model_that_answers_nobody_ends_the_run(runs: Runs) -> None:
    def broken(request: ModelRequest) -> str:
        raise BackendError("the engine is gone")

    with pytest.raises(BackendError, match="the engine is gone"):
        runs("none", "recent-2", llm=FakeLLM(broken))
