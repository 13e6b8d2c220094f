"""The whole loop on a small history of a made-up person, with the parts that are set up here."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from persona_agent.agent import PersonaAgent
from persona_agent.align import AlignOptions
from persona_agent.errors import PersonaAgentError
from persona_agent.ports import LLM, Embedder
from persona_agent.predict import RecallPlan
from persona_agent.propose import miner
from persona_agent.types import Interaction, Scope

WHO = "somebody"
# Films that do not exist: no model has read about them.
FILMS = (
    ("The Cellar Door", "Horror", 1),
    ("A Letter to Lisbon", "Romance", 5),
    ("Nine Teeth", "Horror", 2),
    ("Songs of the Ferry", "Music", 4),
)
NEXT = "The Hollow Stair (Horror)"
START = datetime(2026, 1, 1, 20, tzinfo=UTC)
SMALL = AlignOptions(recent=2, held_out=4, anchors=1, rounds=1, plan=RecallPlan(recent=4))


def history() -> list[Interaction]:
    """Return sixteen ratings, an evening each: films of horror are liked least."""
    return [
        Interaction(
            Scope(WHO),
            START + timedelta(days=day),
            f"{title}, part {day // len(FILMS) + 1} ({genre})",
            outcome=str(stars),
            metadata={"genres": [genre], "query_label": "Film", "outcome_label": "Rating"},
        )
        for day, (title, genre, stars) in enumerate(FILMS * 4)
    ]


def prove_loop(llm: LLM, embedder: Embedder) -> str:
    """Return what came of remembering, recalling, aligning, predicting and forgetting, in words.

    All of it is real but the person: a database in memory, the embedder, the model, the gate. Only
    the miner proposes, so that a minute is enough for a slow model. Whether the persona is accepted
    is for the gate to say; both are sound. Raises PersonaAgentError where a step does not do what
    it must.
    """
    agent = PersonaAgent.open(":memory:", llm=llm, embedder=embedder, proposers=(miner,))
    try:
        events = history()
        stored = [one.event for one in agent.add(events).results]
        if stored != ["ADD"] * len(events):
            raise PersonaAgentError(
                f"of {len(events)} interactions {stored.count('ADD')} were stored"
            )
        best = agent.search(events[0].text, user_id=WHO, top_k=1).results
        if not best or best[0].interaction != events[0]:
            raise PersonaAgentError("a memory is not found by its own words")
        aligned = agent.align(WHO, options=SMALL)
        guess = agent.predict([NEXT], user_id=WHO)[0]
        if guess.error is not None:
            raise PersonaAgentError(f"the model could not predict: {guess.error}")
        gone = agent.forget(WHO)
        if agent.users():
            raise PersonaAgentError(f"something is left of the user who was forgotten: {gone}")
    finally:
        agent.memory.store.close()  # and not the model, which is the caller's
    lines = len(aligned.after.lines)
    what = "accepted" if aligned.accepted else f"left as it was ({aligned.reason})"
    return (
        f"{len(events)} interactions remembered, recalled and forgotten; a persona of {lines} lines "
        f"{what}; {NEXT!r} predicted {guess.text}"
    )
