"""What is said: questions, lists with reasons, and what was taken note of. All words are prompts."""

from __future__ import annotations

from collections.abc import Sequence

from persona_agent import prompts
from persona_agent.chat.domain import Domain
from persona_agent.chat.state import ChatState, Opinion

PROMPT = "chat"
MOST_NAMED = 6
MAX_PHRASE_CHARS = 60


def greeting(domain: Domain, state: ChatState) -> str:
    """Return the first words of a conversation, with what is remembered from before."""
    parts = [
        prompts.text(PROMPT, f"remembered_{meaning}", names=_attributes(domain, ids))
        for meaning in ("yes", "no")
        if (ids := state.thinks("attribute", meaning)[-MOST_NAMED:])
    ]
    if not parts:
        return prompts.text(PROMPT, "greet", noun=domain.noun)
    return prompts.text(PROMPT, "welcome_back", remembered=listed(parts))


def question(domain: Domain, attribute: str) -> str:
    """Return the question whether an attribute is wanted."""
    kind = domain.kind(attribute)
    form = domain.asks.get(kind, "kind")
    fields = {"name": domain.attribute(attribute)}
    if form == "decade":
        fields["noun"] = domain.noun
    if form == "taste":
        fields["plural"] = domain.plural
    if form == "kind":
        fields["kind"] = prompts.as_data(kind, MAX_PHRASE_CHARS)
    return prompts.text(PROMPT, f"ask_{form}", **fields)


def due(domain: Domain, state: ChatState) -> str:
    """Return the question that is open, for whoever reads the answer or asks it once more."""
    if state.awaits == "attribute":
        return question(domain, state.pending[0])
    if state.awaits in ("items", "which"):
        names = "; ".join(domain.item(one) for one in state.pending)
        return prompts.text(PROMPT, "question_items", names=names)
    return prompts.text(PROMPT, "question_open", noun=domain.noun)


def recommendation(
    domain: Domain, state: ChatState, items: Sequence[str], liked: Sequence[str]
) -> str:
    """Return a numbered list of items, each with why it is there."""
    if len(items) == 1:
        entry = _explained(domain, state, items[0], domain.item(items[0]), liked)
        return prompts.text(PROMPT, "show_one", entry=entry)
    entries = [
        _explained(
            domain,
            state,
            item,
            prompts.text(PROMPT, "entry", number=str(number), title=domain.item(item)),
            liked,
        )
        for number, item in enumerate(items, start=1)
    ]
    return prompts.text(PROMPT, "show", list="\n".join(entries))


def which(domain: Domain, items: Sequence[str]) -> str:
    """Return the question which of a list is meant."""
    entries = [
        prompts.text(PROMPT, "entry", number=str(number), title=domain.item(item))
        for number, item in enumerate(items, start=1)
    ]
    return prompts.text(PROMPT, "which", list="  ".join(entries))


def noted(domain: Domain, opinions: Sequence[Opinion], before: ChatState) -> list[str]:
    """Return sentences on what a person named by themselves, and on changes of mind."""
    said = []
    for meaning in ("yes", "no"):
        own = [one for one in opinions if one.target == "attribute" and one.meaning == meaning]
        changed = [one.id for one in own if _contradicts(before, one)]
        fresh = [one.id for one in own if one.id not in changed]
        for form, ids in (("changed", changed), ("noted", fresh)):
            if ids:
                names = _attributes(domain, ids)
                said.append(prompts.text(PROMPT, f"{form}_{meaning}", names=names))
    for form, meaning in (("liked", "yes"), ("refused", "no")):
        items = [o.id for o in opinions if o.target == "item" and o.meaning == meaning]
        if items:
            names = listed([domain.item(one) for one in items[:MOST_NAMED]])
            said.append(prompts.text(PROMPT, form, names=names))
    return said


def changed(domain: Domain, opinion: Opinion, before: ChatState) -> list[str]:
    """Return a sentence if an answer contradicts what was thought before, else nothing."""
    return noted(domain, [opinion], before) if _contradicts(before, opinion) else []


def no_match(domain: Domain, phrase: str) -> str:
    """Return that nothing is called so."""
    shown = prompts.as_data(phrase, MAX_PHRASE_CHARS)
    return prompts.text(PROMPT, "no_match", noun=domain.noun, phrase=shown)


def linked(phrase: str, name: str) -> str:
    """Return what a phrase was taken for."""
    shown = prompts.as_data(phrase, MAX_PHRASE_CHARS)
    return prompts.text(PROMPT, "linked", phrase=shown, name=prompts.as_data(name))


def listed(names: Sequence[str]) -> str:
    """Return names with commas and an "and".

    >>> listed(["tea"]), listed(["tea", "jam", "rye"])
    ('tea', 'tea, jam and rye')
    """
    if len(names) < 2:
        return "".join(names)
    return prompts.text(PROMPT, "and", first=", ".join(names[:-1]), last=names[-1])


def _attributes(domain: Domain, ids: Sequence[str]) -> str:
    return listed([domain.attribute(one) for one in ids])


def _contradicts(before: ChatState, opinion: Opinion) -> bool:
    old = before.opinion(opinion.target, opinion.id)
    return old is not None and {old.meaning, opinion.meaning} == {"yes", "no"}


def _explained(
    domain: Domain, state: ChatState, item: str, entry: str, liked: Sequence[str]
) -> str:
    own = set(domain.attributes_of(item))
    has = [one for one in state.thinks("attribute", "yes") if one in own][-MOST_NAMED:]
    lacks = [one for one in state.thinks("attribute", "no") if one in own][-MOST_NAMED:]
    reasons = []
    if has:
        reasons.append(prompts.text(PROMPT, "reason_has", names=_attributes(domain, has)))
    if lacks:
        reasons.append(prompts.text(PROMPT, "reason_lacks", names=_attributes(domain, lacks)))
    found = domain.explain(liked, item)
    is_reason = found is not None and found.reasons and found.reasons[0].kind != "popularity"
    if found is not None and is_reason and any(one.weight > 0 for one in found.reasons):
        sentence = found.sentence(lambda one: domain.item(one) if domain.known([one]) else one)
        reasons.append(sentence.removeprefix(f"{domain.item(item)}, ").removesuffix("."))
    if not reasons:
        return entry
    return prompts.text(PROMPT, "because", entry=entry, reasons="; ".join(reasons))
