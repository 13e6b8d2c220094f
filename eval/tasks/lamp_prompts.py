"""LaMP's own prompts: what it searches by, and how it puts what it found before the input.

So that a baseline can be run as published. Source: LaMP's public code, prompts/prompts.py (2024),
read for its behaviour: clauses, their joints, the shares of the token budget.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeAlias

from persona_agent import prompts
from persona_agent.eval.tasks.lamp import Kind, body
from persona_agent.types import Interaction

QUOTED = re.compile(r'"([^"]*)"')
LARGEST_SHARE = 6  # of ten: how much of the budget the input may take before it is ignored

Count: TypeAlias = Callable[[str], int]
Cut: TypeAlias = Callable[[str, int], str]


def corpus_text(kind: Kind, item: Interaction) -> str:
    """Return what LaMP's retrievers see of a profile item."""
    title = item.metadata.get("title")
    parts = {
        "1": (item.outcome, item.query),
        "2n": (str(title or ""), item.query),
        "4": (item.outcome, item.query),
        "5": (item.outcome, item.query),
        "7": (item.outcome,),
    }.get(kind.name, (item.query,))
    return " ".join(part for part in parts if part)


def search_text(kind: Kind, given: str) -> str:
    """Return what LaMP searches a profile by: the text after the marker; of LaMP-1 both references.

    Raises ValueError for an input that lacks it.
    """
    if kind.name == "1":
        quoted = QUOTED.findall(given)
        if len(quoted) < 3:
            raise ValueError(f"{given[:80]!r} has {len(quoted)} quoted titles; three are due")
        return f"{quoted[1]} {quoted[2]}"
    found = body(kind, given)
    if found is None:
        raise ValueError(f"{given[:80]!r} has no {kind.after!r}")
    return found


def augmented(
    kind: Kind,
    given: str,
    found: Sequence[Interaction],
    *,
    max_tokens: int = 512,
    count: Count = lambda text: len(text.split()),
    cut: Cut = lambda text, tokens: " ".join(text.split()[:tokens]),
) -> str:
    """Return the input with the found items before it, as LaMP's "in-prompt augmentation".

    `count` and `cut` are of the model's tokenizer; by default words. The items share what the
    input leaves of `max_tokens`, of which it may take 60%; what one does not need goes to the
    next. If an item gets no room, the share of the input is lowered by tenths, and at last the
    input stands alone.
    """
    if not found:
        return given
    for tenths in range(LARGEST_SHARE, -1, -1):
        left = max_tokens - min(count(given), tenths * max_tokens // 10)
        clauses = _clauses(kind, found, left, count, cut)
        if clauses is None:
            continue
        if kind.name == "1":
            head, title, tail = given.partition("title")
            return f"{head}{title}, and {', and '.join(clauses)}{tail}" if title else given
        return prompts.text(
            "lamp", f"whole_{kind.name}", clauses=" , and ".join(clauses), input=given
        )
    return given


def _clauses(
    kind: Kind, found: Sequence[Interaction], left: int, count: Count, cut: Cut
) -> list[str] | None:
    """Return the clause of each item within its share of the budget; None if one gets no room."""
    ends = 0
    if kind.name != "1":
        ends = count(prompts.text("lamp", f"whole_{kind.name}", clauses="", input=""))
    share = (left - ends - 2 * (len(found) - 1)) // len(found)
    saved = 0
    clauses = []
    for item in found:
        needed = 2 if kind.name == "1" else count(_clause(kind, item, " "))
        room = share + saved - needed
        if room < 1:
            return None
        text = cut(_long(kind, item), room)
        saved += share - count(text) - needed
        clauses.append(_clause(kind, item, text))
    return clauses


def _long(kind: Kind, item: Interaction) -> str:
    """Return the text of an item that is cut to fit; its label never is."""
    return (item.outcome or "") if kind.name in ("1", "7") else item.query


def _clause(kind: Kind, item: Interaction, text: str) -> str:
    if kind.name in ("1", "7"):
        return prompts.text("lamp", f"clause_{kind.name}", text=text)
    return prompts.text("lamp", f"clause_{kind.name}", text=text, label=item.outcome or "")
