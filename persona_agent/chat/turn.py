"""One turn of a conversation: a program without I/O, from state and words to state and words.

Bad answers are part of it: silence, nonsense and other languages leave the question open once and
then let it go; a contradiction replaces what was said before; nothing ends the conversation but
the person.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from persona_agent import prompts
from persona_agent.chat import saying
from persona_agent.chat.deciding import Decision, Policy, belief, decide
from persona_agent.chat.domain import Domain
from persona_agent.chat.hearing import Heard, Mention, Names, hear
from persona_agent.chat.linking import Link, link
from persona_agent.chat.reading import Asked, Reading, read
from persona_agent.chat.state import (
    ChatState,
    Meaning,
    Opinion,
    anew,
    asking,
    heard,
    showing,
    waiting,
)
from persona_agent.chat.words import Command, words_of
from persona_agent.errors import InputError
from persona_agent.program import Program
from persona_agent.types import Record, Scope

MAX_TEXT_CHARS = 1000
LEAST_SURE = 0.4  # what the model is less sure of is not understood
PATIENCE = 2  # answers in a row that are not understood until the question is let go


@dataclass(frozen=True, slots=True)
class Turn(Record):
    """What came of one turn: the new state and what is said, and how it came about.

    `heard` are the person's words, `reading` what they meant as an answer, `mentions` what they
    named exactly, `links` what phrases were taken for, `unmatched` phrases that were not found.
    `opinions` are new in this turn.
    """

    state: ChatState
    say: str
    heard: str = ""
    reading: Reading | None = None
    mentions: tuple[Mention, ...] = ()
    links: tuple[Link, ...] = ()
    unmatched: tuple[str, ...] = ()
    opinions: tuple[Opinion, ...] = ()
    decision: Decision | None = None


@dataclass(frozen=True, slots=True)
class Setting:
    """What stays the same for all turns of a conversation: whose it is, about what, how.

    `liked` are items that the person is known to like, `seen` those not to be recommended.
    """

    domain: Domain
    names: Names
    scope: Scope
    liked: tuple[str, ...] = ()
    seen: tuple[str, ...] = ()
    policy: Policy = field(default_factory=Policy)


def begin(setting: Setting, state: ChatState) -> Turn:
    """Return the first turn, in which the person is greeted and asked an open question."""
    checked = fitted(state, setting.domain)
    return Turn(checked, saying.greeting(setting.domain, checked))


def turn(
    setting: Setting, state: ChatState, text: str, *, words_alone: bool = False
) -> Program[Turn]:
    """Return what comes of a person's words; asks a model only if exact words do not tell.

    With `words_alone` no model is asked: what exact words do not tell is not understood. A
    conversation that had ended goes on with what was learned in it. Raises InputError for the
    state of another domain, StoreError if names cannot be looked up.
    """
    before = fitted(_reopened(state), setting.domain)
    before = replace(before, turn=before.turn + 1)
    words = text[:MAX_TEXT_CHARS].strip()
    command = setting.names.lexicon.command(words)
    if command in ("leave", "again"):
        return _obeyed(setting, before, words, command)
    if not words:
        return _missed(setting, before, Turn(before, "", words), [_say("silence")])
    if command == "suggest":
        return _next(setting, before, Turn(before, "", words), [], show_now=True)
    return (yield from _answered(setting, before, words, words_alone))


def fitted(state: ChatState, domain: Domain) -> ChatState:
    """Return a state without ids that the domain does not have, as when a catalogue has changed.

    Raises InputError for a state of another domain.
    """
    if state.domain != domain.name:
        raise InputError(f"the conversation is about {state.domain!r}, not {domain.name!r}")
    items, attributes = domain.table.items, domain.table.attributes
    pending = tuple(
        one
        for one in state.pending
        if one in (attributes if state.awaits == "attribute" else items)
    )
    kept = replace(
        state,
        opinions=tuple(
            one
            for one in state.opinions
            if one.id in (attributes if one.target == "attribute" else items)
        ),
        asked=tuple(one for one in state.asked if one in attributes),
        shown=tuple(one for one in state.shown if one in items),
        pending=pending,
        awaits=state.awaits if pending or not state.pending else "anything",
    )
    return kept


def _answered(setting: Setting, before: ChatState, words: str, words_alone: bool) -> Program[Turn]:
    """Return the turn of a message that is neither empty nor a command."""
    domain, names = setting.domain, setting.names
    listing = before.awaits in ("items", "which")
    found = hear(words, names)
    chosen = _chosen(before, words, found, names) if listing else None
    if chosen is not None:
        return _accepted(setting, before, Turn(before, "", words, mentions=found.mentions), chosen)
    reading, found = yield from _read(setting, before, words, found, words_alone)
    meaning: Meaning = reading.meaning if reading is not None else "other"
    links: list[Link | None] = []
    if before.awaits not in ("attribute", *_LISTS) or meaning in ("other", "no"):
        links = yield from link(setting.scope, [one.text for one in found.phrases])
    pairs = list(zip(found.phrases, links, strict=False))
    linked = [(one.wanted, hit) for one, hit in pairs if hit is not None]
    unmatched = tuple(one.text for one, hit in pairs if hit is None)
    answers = _answers(before, meaning, words)
    named = [
        Opinion(one.target, one.id, "yes" if one.wanted else "no", before.turn, words)
        for one in found.mentions
    ]
    named += [
        Opinion(hit.target, hit.id, "yes" if wanted else "no", before.turn, words)
        for wanted, hit in linked
    ]
    opinions = tuple({(one.target, one.id): one for one in [*answers, *named]}.values())
    state = heard(before, opinions)
    made = Turn(
        state, "", words, reading, found.mentions, tuple(hit for _, hit in linked), unmatched,
        opinions,
    )  # fmt: skip
    said = [saying.linked(hit.phrase, hit.name) for _, hit in linked]
    said += [line for one in answers for line in saying.changed(domain, one, before)]
    said += saying.noted(domain, named, before)
    if listing and meaning == "yes" and not named:
        return _which_of(setting, state, made)
    if meaning == "other" and not named:
        lost = unmatched[0] if unmatched else None
        why = _say("not_understood") if lost is None else saying.no_match(domain, lost)
        return _missed(setting, state, made, [why])
    return _next(setting, replace(state, missed=0), made, said)


_LISTS = ("items", "which")


def _read(
    setting: Setting, before: ChatState, words: str, found: Heard, words_alone: bool
) -> Program[tuple[Reading | None, Heard]]:
    """Return what the words mean as an answer, and what they name besides.

    Who names something has said something else than yes or no, unless exact words come first or
    what is named is what was asked. An open question is answered by names, or by exact words.
    """
    lexicon = setting.names.lexicon
    quick = lexicon.quick(words)
    if quick is not None:
        reading = Reading(quick.meaning, "words", rest=quick.rest)
        return reading, hear(quick.rest, setting.names)
    if before.awaits == "attribute":
        own = [one for one in found.mentions if one.id == before.pending[0]]
        if own:
            return Reading("yes" if own[0].wanted else "no", "words"), found
    if found.mentions or before.awaits in ("anything", "nothing"):
        return None, found
    if words_alone:
        return Reading("other", "nobody", 0.0), found
    asked = Asked(saying.due(setting.domain, before), words)
    (reading,) = yield from read(setting.scope, [asked], lexicon)
    if reading.by == "model" and reading.probability < LEAST_SURE:
        reading = replace(reading, meaning="other")
    return reading, found


def _answers(before: ChatState, meaning: Meaning, words: str) -> list[Opinion]:
    """Return what an answer says of what is pending."""
    if meaning == "other" or (before.awaits in _LISTS and meaning == "yes"):
        return []
    if before.awaits == "attribute":
        return [Opinion("attribute", before.pending[0], meaning, before.turn, words)]
    if before.awaits in _LISTS:
        return [Opinion("item", one, meaning, before.turn, words) for one in before.pending]
    return []


def _chosen(before: ChatState, words: str, found: Heard, names: Names) -> str | None:
    """Return the item of the list that is picked by its title or place, None if none is."""
    wanted = {one.id for one in found.mentions if one.target == "item" and one.wanted}
    titled = [one for one in before.pending if one in wanted]
    if len(titled) == 1:
        return titled[0]
    place = names.lexicon.place(words)
    if place is None or place >= len(before.pending):
        return None
    refuses = any(names.lexicon.has("not", one) for one in words_of(words))
    return None if refuses else before.pending[place]


def _which_of(setting: Setting, state: ChatState, made: Turn) -> Turn:
    """Return the turn after a yes to a list: one of it is accepted, or it is asked which."""
    if len(state.pending) == 1 or state.awaits == "which":
        return _accepted(setting, state, made, state.pending[0])
    asked = replace(state, awaits="which", missed=0)
    return replace(made, state=asked, say=saying.which(setting.domain, state.pending))


def _accepted(setting: Setting, state: ChatState, made: Turn, item: str) -> Turn:
    opinion = Opinion("item", item, "yes", state.turn, made.heard)
    done = replace(
        waiting(heard(state, [opinion]), "nothing"), outcome="accepted", accepted=item, missed=0
    )
    say = _say("accepted", title=setting.domain.item(item))
    return replace(made, state=done, say=say, opinions=(*made.opinions, opinion))


def _missed(setting: Setting, state: ChatState, made: Turn, said: list[str]) -> Turn:
    """Return the turn after something not understood: asked again, then let go."""
    missed = replace(state, missed=state.missed + 1)
    if missed.missed < PATIENCE:
        awaited = missed if missed.pending else waiting(missed, "anything")
        say = " ".join([*said, saying.due(setting.domain, awaited)])
        return replace(made, state=awaited, say=say)
    return _next(setting, replace(missed, missed=0), made, [*said, _say("other_question")])


def _next(
    setting: Setting, state: ChatState, made: Turn, said: list[str], *, show_now: bool = False
) -> Turn:
    """Return the turn with the next question or list after what was said."""
    domain, policy = setting.domain, setting.policy
    liked = (*setting.liked, *state.thinks("item", "yes"))
    prior = domain.prior(liked)
    prior[domain.table.items.positions(domain.known(setting.seen))] = 0
    decision = decide(
        domain, state, belief(domain, state, prior, policy), policy, show_now=show_now
    )
    if decision.step == "nothing":
        after = replace(waiting(state, "nothing"), outcome="exhausted")
        said = [*said, _say("exhausted")]
    elif decision.step == "ask":
        after = asking(state, decision.ids[0])
        said = [*said, saying.question(domain, decision.ids[0])]
    else:
        after = showing(state, decision.ids)
        said = [*said, saying.recommendation(domain, state, decision.ids, liked)]
    return replace(made, state=after, say=" ".join(said), decision=decision)


def _obeyed(setting: Setting, before: ChatState, words: str, command: Command) -> Turn:
    if command == "leave":
        left = replace(waiting(before, "nothing"), outcome="left", missed=0)
        return Turn(left, _say("left"), words)
    return Turn(anew(before), _say("again", noun=setting.domain.noun), words)


def _reopened(state: ChatState) -> ChatState:
    """Return the state in which a conversation goes on that had ended: what was said is memory.

    What was refused then may be right now.
    """
    if state.outcome == "open":
        return state
    if state.outcome == "exhausted":
        return replace(state, outcome="open")
    kept = [
        replace(one, turn=0)
        for one in state.opinions
        if one.target == "attribute" or one.meaning == "yes"
    ]
    return ChatState(state.domain, state.conversation, state.turn, tuple(kept))


def _say(section: str, **fields: str) -> str:
    return prompts.text(saying.PROMPT, section, **fields)
