"""What a conversation leaves in memory, and what the next one starts from.

Each turn in which something was said is one interaction in the person's own words, with what it
was taken to mean in its metadata under "chat"; facts rest on such interactions. The next
conversation reads the interactions, so that what is forgotten or deleted is gone from it, too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from persona_agent import prompts
from persona_agent.bridge.history import LIKES, ItemHistory, Likes, item_events, item_history
from persona_agent.chat.domain import Domain
from persona_agent.chat.state import Opinion
from persona_agent.chat.turn import Turn
from persona_agent.memory.episodic import EpisodicMemory
from persona_agent.memory.fact_reading import read_facts
from persona_agent.memory.fact_rows import write_merge
from persona_agent.memory.facts import FactDraft, Merge, merge, said
from persona_agent.memory.rows import Added, owner_of
from persona_agent.sensitive import categories
from persona_agent.types import Fact, Interaction, Json, Record, Scope

KEY = "chat"
CONFIDENCE = 0.6  # of a fact from one answer: it may be a mood


@dataclass(frozen=True, slots=True)
class Learned(Record):
    """What was kept of a turn: the interaction, facts that are new or confirmed, and facts closed.

    `added` says what the store did; it is None for a turn that taught nothing.
    """

    added: Added | None = None
    facts: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()


def interaction(turn: Turn, scope: Scope, when: datetime, asked: str) -> Interaction | None:
    """Return the interaction that a turn leaves, None if nothing was learned.

    `asked` is what had been said before. The query is the person's words, the response ours.
    """
    if not turn.opinions:
        return None
    opinions: list[Json] = [
        {"target": one.target, "id": one.id, "meaning": one.meaning} for one in turn.opinions
    ]
    about: dict[str, Json] = {
        "domain": turn.state.domain,
        "conversation": turn.state.conversation,
        "turn": turn.state.turn,
        "asked": asked,
        "opinions": opinions,
        "accepted": turn.state.accepted,
    }
    return Interaction(
        scope,
        when,
        turn.heard,
        response=turn.say,
        item=turn.state.accepted,
        metadata={KEY: about},
    )


def remembered(events: Iterable[Interaction], domain: Domain) -> tuple[Opinion, ...]:
    """Return what earlier conversations about a domain say of its attributes, the latest last.

    An "unsure" takes back what was thought before, and is not kept itself.
    """
    found: dict[str, Opinion] = {}
    for event in events:
        for target, one, meaning in _opinions(event, domain):
            if target == "attribute" and one in domain.table.attributes:
                found.pop(one, None)
                if meaning in ("yes", "no"):
                    found[one] = Opinion("attribute", one, meaning, 0, event.query)  # type: ignore[arg-type]
    return tuple(found.values())


def history(events: Sequence[Interaction], domain: Domain, likes: Likes = LIKES) -> ItemHistory:
    """Return the items a person likes, and those not to be recommended again.

    Both from conversations about this domain, where naming or accepting an item is liking it, and
    from other interactions about its items, such as ratings, as `likes` says.
    """
    other = [one for one in events if KEY not in one.metadata]
    base = item_history(item_events(other, domain.catalogue, likes))
    liked = dict.fromkeys(base.liked)
    for event in events:
        for target, one, meaning in _opinions(event, domain):
            if target == "item" and one in domain.table.items:
                liked.pop(one, None)
                if meaning == "yes":
                    liked[one] = None
    return ItemHistory(tuple(liked), tuple(dict.fromkeys([*base.seen, *liked])))


def keep(
    memory: EpisodicMemory, event: Interaction, turn: Turn, domain: Domain, now: datetime
) -> Learned:
    """Store what a turn taught: the interaction first, then the facts that rest on it."""
    (added,) = memory.add([event], now)
    if added.event == "SKIP":
        return Learned(added)
    owner = owner_of(event.scope)
    store = memory.store
    with store.database.write() as connection:
        store.lock(connection, owner)
        known = read_facts(connection, owner)
        found = merged(known, turn, event, domain)
        write_merge(connection, owner, found, now)
    by_id = {one.id: one.text for one in (*known, *found.new)}
    confirmed = [by_id[fact] for fact, _ in found.repeated]
    return Learned(
        added,
        (*(one.text for one in found.new), *confirmed),
        tuple(one.text for one in found.closed),
    )


def merged(known: Sequence[Fact], turn: Turn, event: Interaction, domain: Domain) -> Merge:
    """Return what a turn does to the facts that are known: the opposite of what is said now ends.

    Nothing that is sensitive becomes a fact.
    """
    drafts = [
        FactDraft("preference", text, (event.id,), CONFIDENCE, _of(known, opposite))
        for text, opposite in _statements(turn, domain)
        if not categories(text)
    ]
    return merge(known, drafts, {event.id: event})


def _statements(turn: Turn, domain: Domain) -> list[tuple[str, str | None]]:
    """Return what a turn says in sentences, each with the sentence that it makes untrue."""
    found: list[tuple[str, str | None]] = []
    for one in turn.opinions:
        if one.target == "attribute" and one.meaning in ("yes", "no"):
            name = domain.attribute(one.id)
            both = [
                prompts.text("chat", f"fact_{form}", name=name, domain=domain.plural)
                for form in ("yes", "no")
            ]
            found.append((both[0], both[1]) if one.meaning == "yes" else (both[1], both[0]))
    if turn.state.accepted is not None:
        name = domain.item(turn.state.accepted)
        found.append((prompts.text("chat", "fact_item", name=name, domain=domain.plural), None))
    return found


def _of(known: Sequence[Fact], text: str | None) -> tuple[str, ...]:
    if text is None:
        return ()
    return tuple(
        one.id for one in known if one.valid_until is None and said(one.text) == said(text)
    )


def _opinions(event: Interaction, domain: Domain) -> list[tuple[str, str, str]]:
    """Return target, id and meaning of each opinion in an interaction, none for other domains."""
    about = event.metadata.get(KEY)
    if event.role != "user" or not isinstance(about, Mapping):
        return []
    if about.get("domain") != domain.name:
        return []
    opinions = about.get("opinions")
    return [
        (str(one["target"]), str(one["id"]), str(one["meaning"]))
        for one in (opinions if isinstance(opinions, list) else [])
        if isinstance(one, Mapping) and {"target", "id", "meaning"} <= set(one)
    ]
