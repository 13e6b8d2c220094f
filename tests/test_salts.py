"""Whose prompts share a prefix cache, and that nothing a request carried survives."""

from __future__ import annotations

import itertools
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent import FakeLLM, PersonaAgent
from persona_agent.drive import Ports, run
from persona_agent.program import Program, complete, salted
from persona_agent.salts import CacheSalts
from persona_agent.types import Message, ModelRequest, Scope

KEY = b"a key of this test"
ids = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)
scopes = st.builds(Scope, user=ids, tenant=ids)


class Salted(FakeLLM):
    """A fake that keeps the caches of different salts apart: it has none."""

    honours_salt = True


@given(scopes, scopes)
def test_a_tenant_shares_and_no_two_tenants_do(one: Scope, two: Scope) -> None:
    salts = CacheSalts("tenant", KEY)
    assert (salts.of(one) == salts.of(two)) == (one.tenant == two.tenant)


@given(scopes, scopes)
def test_by_user_nobody_shares_with_anybody(one: Scope, two: Scope) -> None:
    salts = CacheSalts("user", KEY)
    assert (salts.of(one) == salts.of(two)) == (one.owner == two.owner)


@given(scopes)
def test_another_key_or_policy_gives_another_salt(scope: Scope) -> None:
    made = [
        CacheSalts("tenant", KEY).of(scope),
        CacheSalts("user", KEY).of(scope),
        CacheSalts("tenant", KEY + b"2").of(scope),
        CacheSalts("tenant").of(scope),
        CacheSalts("tenant").of(scope),
    ]
    assert all(a != b for a, b in itertools.combinations(made, 2))
    assert CacheSalts("off", KEY).of(scope) is None


def test_a_short_key_and_an_unknown_policy_are_refused() -> None:
    with pytest.raises(ValueError, match="has 5 bytes; give at least 16"):
        CacheSalts("tenant", b"short")
    with pytest.raises(ValueError, match="'everybody'; it must be tenant, user, off"):
        CacheSalts("everybody", KEY)  # type: ignore[arg-type]


def test_a_salt_replaces_what_a_request_carried() -> None:
    def program() -> Program[str]:
        request = ModelRequest((Message("user", "hi"),), cache_salt="guessed by a client")
        return (yield from complete([request]))[0].text

    model = FakeLLM(lambda request: str(request.cache_salt))
    assert run(salted(program(), "ours"), Ports(model)) == "ours"
    assert run(salted(program(), None), Ports(model)) == "None"


def test_every_prompt_of_an_agent_carries_the_salt_of_its_tenant() -> None:
    asked: set[str | None] = set()
    for tenant in ("acme", "other"):
        model = Salted(lambda request: "1" if request.choices else "well")
        salts = CacheSalts("tenant", KEY)
        with PersonaAgent.open(
            ":memory:", llm=model, embedder="hash", tenant=tenant, cache_salts=salts
        ) as agent:
            agent.add(
                [{"query": f"film {i}", "outcome": str(i % 5 + 1)} for i in range(30)],
                user_id="ann",
            )
            agent.ask("what now?", user_id="ann")
            agent.align(["ann"])
            agent.predict(["film 3"], user_id="ann")
        used = {request.cache_salt for request in model.requests}
        assert used == {salts.of(Scope("ann", tenant))}
        asked |= used
    assert len(asked) == 2


def test_by_default_salts_are_sent_where_the_engine_honours_them() -> None:
    for model, salt in ((Salted(lambda _: "well"), True), (FakeLLM(lambda _: "well"), False)):
        with PersonaAgent.open(":memory:", llm=model, embedder="hash") as agent:
            agent.add("I like tea.", user_id="ann")
            agent.ask("what now?", user_id="ann")
        assert all((request.cache_salt is not None) == salt for request in model.requests)


def test_processes_with_one_key_in_their_environment_share() -> None:
    environ = {"PERSONA_AGENT_CACHE_KEY": KEY.decode()}
    used = set()
    for _ in range(2):
        model = Salted(lambda _: "well")
        with PersonaAgent.open(":memory:", llm=model, embedder="hash", environ=environ) as agent:
            agent.add("I like tea.", user_id="ann")
            agent.ask("what now?", user_id="ann")
        used |= {request.cache_salt for request in model.requests}
    assert used == {CacheSalts("tenant", KEY).of(Scope("ann"))}


def test_salts_that_were_asked_for_and_cannot_be_honoured_are_an_error() -> None:
    with PersonaAgent.open(
        ":memory:",
        llm=FakeLLM(lambda _: "well"),
        embedder="hash",
        cache_salts=CacheSalts("user", KEY),
    ) as agent:
        agent.add("I like tea.", user_id="ann")
        with pytest.raises(ValueError, match="does not keep prefix caches apart"):
            agent.ask("what now?", user_id="ann")


def test_the_key_is_no_part_of_what_is_shown() -> None:
    assert KEY.decode() not in repr(replace(CacheSalts("tenant", KEY)))
