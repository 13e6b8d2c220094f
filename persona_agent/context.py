"""What a prompt should know of a user, within a budget: for prompts that others write."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from persona_agent import prompts
from persona_agent.act import remembered
from persona_agent.memory.tokens import estimate_tokens
from persona_agent.persona import Persona, PersonaLine, render
from persona_agent.types import Fact, Interaction, Recalled, Record


@dataclass(frozen=True, slots=True)
class Context(Record):
    """The persona, semantic memory, facts and memories of a user as text, and which they are.

    `persona_version` is 0 where there is no persona, which does not mean that nothing is known.
    """

    text: str = ""
    persona_version: int = 0
    memories: tuple[Interaction, ...] = ()
    facts: tuple[Fact, ...] = ()
    lines: tuple[PersonaLine, ...] = ()

    @property
    def instructions(self) -> str:
        """The text as a part of a system prompt, with how to treat it; empty if nothing is known."""
        return prompts.text("context", "known", known=self.text) if self.text else ""


def fitted(
    persona: Persona,
    recalled: Sequence[Recalled],
    *,
    max_tokens: int,
    shown: Collection[str] = (),
    lines: Sequence[PersonaLine] = (),
) -> Context:
    """Return what of a persona and of what was recalled fits into `max_tokens`, by estimate.

    The persona comes first and is not cut; `lines` of semantic memory follow, then memories fill
    the rest, the most similar before the latest. Memories of what is `shown` in the prompt already, by their query, are left out.
    Raises ValueError if the persona alone does not fit.
    """
    known = prompts.text("ask", "persona", lines=render(persona.lines)) if persona.lines else ""
    if estimate_tokens(known) > max_tokens:
        raise ValueError(
            f"the persona takes {estimate_tokens(known)} tokens; max_tokens is {max_tokens}"
        )
    new = [hit for hit in recalled if hit.fact is not None or hit.interaction.query not in shown]
    found = [hit for hit in new if hit.mode != "recent"]
    latest = [hit for hit in new if hit.mode == "recent"][::-1]
    own = {line.id for line in persona.lines}
    wanted: list[PersonaLine | Interaction | Fact] = [one for one in lines if one.id not in own]
    wanted += {_place(hit): hit.fact or hit.interaction for hit in found + latest}.values()
    while True:
        events = sorted(
            (one for one in wanted if isinstance(one, Interaction)), key=lambda one: one.when
        )
        facts = [one for one in wanted if isinstance(one, Fact)]
        more = [one for one in wanted if isinstance(one, PersonaLine)]
        text = "\n\n".join(part for part in (known, remembered(events, facts, more)) if part)
        if not wanted or estimate_tokens(text) <= max_tokens:
            return Context(text, persona.version, tuple(events), tuple(facts), tuple(more))
        wanted.pop()  # the least similar, or the oldest of the latest


def _place(hit: Recalled) -> tuple[str, str]:
    return hit.kind, hit.interaction.id if hit.fact is None else hit.fact.id
