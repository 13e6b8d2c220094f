"""The facade on the memory: facts in what it knows, screens, a warm index after closing."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from persona_agent.agent import PersonaAgent
from persona_agent.cli import main
from persona_agent.llm import FakeLLM
from persona_agent.memory.audit import audit
from persona_agent.memory.embed import HashEmbedder
from persona_agent.memory.index_file import IndexFile, index_path
from persona_agent.memory.screen import Screen
from persona_agent.memory.store import Store
from persona_agent.types import Interaction, ModelRequest, Scope

pytestmark = pytest.mark.real("faiss")

NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
TEA = "Drinks green tea"


def answer(request: ModelRequest) -> str:
    if request.purpose == "facts":
        fact = {"text": TEA, "kind": "habit", "events": [1], "confidence": 0.9, "untrue": []}
        return json.dumps({"facts": [fact]})
    if request.purpose == "step":
        return json.dumps({"action": "search_memory", "arguments": {"query": "green tea"}})
    return "as you like it"


def start(db: Path, **more: Any) -> PersonaAgent:
    return PersonaAgent.open(
        db, llm=FakeLLM(answer), embedder=HashEmbedder(64), clock=lambda: NOW, **more
    )


def talk(count: int = 3) -> list[Interaction]:
    return [
        Interaction(Scope("ann"), NOW - timedelta(days=count - i), f"went for walk {i}", id=f"e{i}")
        for i in range(count)
    ]


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """Give the place of a database that is not there yet."""
    return tmp_path / "persona.db"


def test_context_and_answers_know_facts(db: Path) -> None:
    with start(db, facts=True) as agent:
        agent.add(talk())
        agent.run_jobs()
        known = agent.context("ann", "what tea?")
        assert f"- since 2026-11-20: {TEA}\n" in known
        assert known.index(TEA) < known.index("went for walk")
        assert TEA not in agent.context("ann", "what tea?", max_tokens=1)
        found = agent.ask("what tea?", user_id="ann")
        assert [(one.text, one.evidence) for one in found.facts] == [(TEA, ("e0",))]
        assert TEA in agent.llm.requests[-1].messages[-1].content  # type: ignore[union-attr]  # a FakeLLM
        agent.delete("e0", user_id="ann")
        assert TEA not in agent.context("ann", "what tea?")
        assert agent.ask("what tea?", user_id="ann").facts == ()


def test_the_search_tool_finds_facts(db: Path) -> None:
    def lucky() -> int:
        """Gives a number."""
        return 7

    with start(db, facts=True) as agent:
        agent.add(talk())
        agent.run_jobs()
        found = agent.ask("hello", user_id="ann", tools=[lucky], max_steps=1)
        assert TEA in found.steps[0].result


def test_a_screen_is_passed_on(db: Path) -> None:
    with start(db, screen=Screen(boilerplate=True)) as agent:
        assert agent.add("thanks!", user_id="ann").results[0].codes == ("boilerplate",)


def test_the_next_process_starts_warm_and_an_idle_one_writes_nothing(db: Path) -> None:
    with start(db) as agent:
        agent.add(talk())
        assert len(agent.search("walk", user_id="ann").results) == 3
        label = agent.memory.label()
    assert len(IndexFile(index_path(db), label)) == 1
    written = index_path(db).stat().st_mtime_ns
    with start(db) as agent:
        assert len(agent.search("walk", user_id="ann").results) == 3
    assert index_path(db).stat().st_mtime_ns == written


def test_saving_keeps_those_who_were_not_asked_for(db: Path) -> None:
    with start(db) as agent:
        agent.add(talk())
        agent.search("walk", user_id="ann")
        label = agent.memory.label()
    with start(db) as agent:
        agent.add([Interaction(Scope("bob"), NOW, f"q{i}") for i in range(5)])
        agent.search("q", user_id="bob")
    saved = IndexFile(index_path(db), label)
    assert {owner[1] for owner in saved.heads} == {"ann", "bob"}


def test_closing_brings_nobody_back_who_was_forgotten_meanwhile(db: Path) -> None:
    with start(db) as agent:
        agent.add(talk())
        agent.search("walk", user_id="ann")
    with start(db) as agent:
        agent.add([Interaction(Scope("bob"), NOW, f"q{i}") for i in range(9)])
        agent.search("q", user_id="bob")
        with start(db) as other:
            other.forget("ann")
            assert not index_path(db).exists()
    assert b"ann" not in index_path(db).read_bytes()


def test_what_nobody_gets_to_see_is_audited_after_closing(db: Path) -> None:
    with start(db) as agent:
        agent.add(talk(4))
        agent.search("walk 1", user_id="ann", top_k=3)
    with Store.open(db) as store:
        found = [one for one in audit(store) if one.kind == "never_retrieved"]
    assert len(found) == 1


def test_verify_looks_at_the_saved_index(db: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with start(db) as agent:
        agent.add(talk())
        agent.search("walk", user_id="ann")
    main(["--db", str(db), "--json", "verify"])
    assert json.loads(capsys.readouterr().out)["problems"] == []
    raw = bytearray(index_path(db).read_bytes())
    raw[60] ^= 1
    index_path(db).write_bytes(raw)
    with pytest.raises(SystemExit):
        main(["--db", str(db), "--json", "verify"])
    (problem,) = json.loads(capsys.readouterr().out.splitlines()[0])["problems"]
    assert "the index of user 'ann'" in problem
    main(["--db", str(db), "--json", "verify"])  # the wrong file is gone
