"""The keeper: who has enough that is new is aligned by itself; what users write is summed up."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from persona_agent.agent import PersonaAgent
from persona_agent.llm.fake import FakeLLM
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.operations import Operation, Operations
from persona_agent.memory.store import Store
from persona_agent.serve.config import LearnPart
from persona_agent.serve.learner import Budget, Keeper
from persona_agent.serve.service import Parts, utc_now
from persona_agent.types import Interaction, ModelRequest, Scope
from tests.serve.conftest import Running, until
from tests.serve.test_personas import likes_short

ANN, BOB = Scope("ann"), Scope("bob")
START = datetime(2026, 11, 1, tzinfo=UTC)
SUMMED = "Asks about tea every day."


def rated(scope: Scope, first: int, count: int) -> list[Interaction]:
    """Return films that a user said yes or no to."""
    return [
        Interaction(
            scope,
            START + timedelta(minutes=i),
            f"Film {i}",
            outcome="yes" if i % 4 else "no",
            options=("yes", "no"),
            id=f"{scope.user} {i}",
        )
        for i in range(first, first + count)
    ]


class Looking(Keeper):
    """A keeper that counts how often it looked for work."""

    looks = 0

    def _work(self) -> bool:
        worked = super()._work()
        self.looks += 1
        return worked


class Kept:
    """A store with a keeper, which looks for users who are due all the time."""

    def __init__(self, store: Store, **plan: Any) -> None:
        self.memory = EpisodicMemory(store, HashEmbedder())
        self.operations = Operations(store)
        self.spent: list[tuple[str, str]] = []
        self._agent = PersonaAgent(self.memory, FakeLLM(likes_short))
        self.keeper = Looking(
            LearnPart.model_validate({"facts": False, "every_s": 0.02, **plan}),
            store,
            self.operations,
            agent_of=lambda tenant: self._agent,
            spending=self._spend,
            clock=utc_now,
            tenant="default",
            look_s=0.0,
        )

    def add(self, some: list[Interaction]) -> None:
        self.memory.add(some, utc_now())

    def asked(self, scope: Scope) -> list[Operation]:
        return self.operations.list(scope.tenant, scope)

    def ended(self, scope: Scope) -> int:
        return sum(one.state in ("done", "failed") for one in self.asked(scope))

    def _spend(self, kind: str, end: str) -> int:
        self.spent.append((kind, end))
        return 1000


@contextmanager
def keeping(folder: Path, **plan: Any) -> Iterator[Kept]:
    with Store.open(folder / "k.db") as store:
        kept = Kept(store, **plan)
        with kept.keeper:
            yield kept


def test_who_has_enough_new_outcomes_is_aligned_by_itself(tmp_path: Path) -> None:
    with keeping(tmp_path, align_after=20) as kept:
        kept.add(rated(BOB, 0, 19))
        kept.add(rated(ANN, 0, 40))
        until(lambda: kept.ended(ANN) == 1)
        (first,) = kept.asked(ANN)
        assert (first.state, first.error) == ("done", None)
        assert kept.spent == [("align", "done")]
        kept.add(rated(ANN, 40, 19))
        looks = kept.keeper.looks
        until(lambda: kept.keeper.looks > looks + 3)  # it looked again, and saw too little
        assert len(kept.asked(ANN)) == 1
        kept.add(rated(ANN, 59, 1))
        until(lambda: kept.ended(ANN) == 2)
        assert kept.asked(BOB) == []


def test_a_spent_budget_stops_learning(tmp_path: Path) -> None:
    with keeping(tmp_path, align_after=20, tokens_per_hour=1000) as kept:
        kept.add(rated(ANN, 0, 40))
        until(lambda: kept.ended(ANN) == 1)
        kept.add(rated(BOB, 0, 40))
        looks = kept.keeper.looks
        until(lambda: kept.keeper.looks > looks + 3)
        assert [one.state for one in kept.asked(BOB)] == ["queued"]


def test_nobody_is_aligned_where_that_is_off(tmp_path: Path) -> None:
    with keeping(tmp_path, align=False) as kept:
        kept.add(rated(ANN, 0, 40))
        looks = kept.keeper.looks
        until(lambda: kept.keeper.looks > looks + 3)
        assert kept.asked(ANN) == []


def test_a_budget_is_of_an_hour() -> None:
    now = [0.0]
    budget = Budget(100, lambda: now[0])
    budget.spend(100)
    assert not budget.is_left
    now[0] += 3601
    assert budget.is_left
    assert Budget(0).is_left


def sums_up(request: ModelRequest) -> str:
    return json.dumps({"lines": [SUMMED]}) if request.purpose == "summaries" else "Tea."


@pytest.mark.parametrize("wanted", [True, False])
def test_what_users_say_is_summed_up_and_shown_if_that_is_wanted(
    serve: Callable[..., Running], seen: list[dict[str, Any]], wanted: bool
) -> None:
    llm = FakeLLM(sums_up)
    learn = {"enabled": True, "facts": False, "summaries": wanted, "every_s": 0.02}
    server = serve(Parts(llm, None, HashEmbedder()), learn=learn)
    agent = server.service.agent("default")
    with server.client(**{"x-persona-user": "ann"}) as web:

        def say(text: str) -> None:
            body = {"model": "stub", "messages": [{"role": "user", "content": text}]}
            assert web.post("/v1/chat/completions", json=body).status_code == 200
            server.settle()

        say("Which tea is good in the morning?")
        if wanted:
            until(lambda: bool(agent.summary("ann").lines))
        say("And in the evening?")
    assert (SUMMED in seen[-1]["body"]["messages"][0]["content"]) == wanted
