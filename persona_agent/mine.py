"""A miner of the user's own history: it writes lines from what sets this user apart.

It needs no model. Every finding carries the interactions that support it and a strength: how many
standard errors it stands from "nothing special". Attributes come from an interaction's metadata:
a text, or a list of texts, under any key that is not reserved for naming things.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, pstdev
from typing import Literal, TypeAlias

from persona_agent import prompts
from persona_agent.persona import MAX_EVIDENCE, Origin, PersonaLine, check_line
from persona_agent.task import Task
from persona_agent.types import Interaction, Record

Kind: TypeAlias = Literal["statistics", "taste", "drift", "wording"]

NAMING_KEYS = frozenset({"query_label", "outcome_label", "item_name"})
MIN_SUPPORT = 4
MIN_STRENGTH = 1.0
LATELY = 20
COMMON_WORDS = frozenset(
    "the and you that this with for are was not but have has had from they will your what when "
    "there their would could should about which were been them then than very just into our out "
    "can all any its it's i'm don't also like how who why".split()
)
WORD = re.compile(r"[^\W\d_][\w'-]{2,}", re.UNICODE)


@dataclass(frozen=True, slots=True)
class Finding(Record):
    """One thing that sets a user apart: a persona line's text, its support and its strength."""

    kind: Kind
    text: str
    evidence: tuple[str, ...]
    strength: float

    def line(self, origin: Origin = "miner") -> PersonaLine:
        """Return this finding as a line of a persona."""
        return PersonaLine(self.text, self.evidence, origin)


def mine(history: Sequence[Interaction], task: Task) -> list[Finding]:
    """Return what sets the user of this labelled history apart, strongest first in each kind.

    `history` is in time order, every interaction with an outcome. Empty in, empty out. What
    cannot be a persona line, such as a taste in something that is a link, is left out.
    """
    if not history:
        return []
    if task.numeric:
        found = [*_rating_statistics(history, task), *_rating_tastes(history)]
        found += _rating_drift(history, task)
    elif task.options or any(one.options for one in history):
        found = [*_choice_statistics(history), *_choice_tastes(history)]
    else:
        found = _wording(history)
    found += _attribute_share(history)
    found += _attribute_drift(history)
    order = {"statistics": 0, "taste": 1, "drift": 2, "wording": 3}
    found = [one for one in found if _is_line(one.text)]
    return sorted(found, key=lambda one: (order[one.kind], -one.strength, one.text))


def attributes(interaction: Interaction) -> tuple[str, ...]:
    """Return the attribute values of an interaction, in order and without repeats."""
    values: list[str] = []
    for key, value in interaction.metadata.items():
        if key in NAMING_KEYS:
            continue
        parts = value if isinstance(value, list) else [value]
        values += [part for part in parts if isinstance(part, str) and len(part) <= 40]
    return tuple(dict.fromkeys(value for value in values if prompts.as_data(value)))


def _is_line(text: str) -> bool:
    try:
        check_line(text)
    except ValueError:
        return False
    return True


def _line(section: str, **fields: str) -> str:
    clean = {key: prompts.as_data(value, 80) for key, value in fields.items()}
    return prompts.text("lines", section, **clean)


def _ids(interactions: Iterable[Interaction]) -> tuple[str, ...]:
    """Return the ids of the latest interactions, as many as a line keeps."""
    return tuple(one.id for one in interactions)[-MAX_EVIDENCE:]


def _number(outcome: Interaction) -> float:
    return float(outcome.outcome or "nan")


def _shares(counts: Counter[str], total: int, most: int) -> str:
    top = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))[:most]
    return ", ".join(f"{name} {100 * count / total:.0f}%" for name, count in top)


def _rating_statistics(history: Sequence[Interaction], task: Task) -> list[Finding]:
    counts = Counter(one.outcome or "" for one in history)
    total = len(history)
    mean = fmean(_number(one) for one in history)
    shares = ", ".join(
        f"{option} to {100 * counts[option] / total:.0f}%" for option in task.options[::-1]
    )
    found = [
        Finding(
            "statistics",
            _line("mean", mean=f"{mean:.1f}", thing=task.item_name, count=str(total)),
            _ids(history),
            math.sqrt(total) + 1,  # before the shares, which say less in more words
        ),
        Finding("statistics", _line("shares", shares=shares), _ids(history), math.sqrt(total)),
    ]
    for option in (task.options[0], task.options[-1]):
        share = counts[option] / total
        if share <= 0.05 and total >= LATELY:
            text = _line("rarely", option=option, count=str(counts[option]), total=str(total))
            found.append(Finding("statistics", text, _ids(history), 1.0))
    return found


def _by_attribute(history: Sequence[Interaction]) -> dict[str, list[Interaction]]:
    groups: dict[str, list[Interaction]] = {}
    for one in history:
        for value in attributes(one):
            groups.setdefault(value, []).append(one)
    return {
        value: group
        for value, group in sorted(groups.items())
        if MIN_SUPPORT <= len(group) < len(history)
    }


def _rating_tastes(history: Sequence[Interaction]) -> list[Finding]:
    ratings = [_number(one) for one in history]
    mean, spread = fmean(ratings), pstdev(ratings)
    if spread == 0:
        return []
    found = []
    for value, group in _by_attribute(history).items():
        gap = fmean(_number(one) for one in group) - mean
        strength = abs(gap) / (spread / math.sqrt(len(group)))
        if strength < MIN_STRENGTH or abs(gap) < 0.05:
            continue
        section = "above" if gap > 0 else "below"
        text = _line(section, value=value, amount=f"{abs(gap):.1f}", count=str(len(group)))
        found.append(Finding("taste", text, _ids(group), strength))
    return found


def _rating_drift(history: Sequence[Interaction], task: Task) -> list[Finding]:
    if len(history) < 2 * LATELY:
        return []
    late, early = history[-LATELY:], history[:-LATELY]
    spread = pstdev([_number(one) for one in history])
    recent, earlier = (fmean(_number(one) for one in part) for part in (late, early))
    if spread == 0:
        return []
    strength = abs(recent - earlier) / (spread * math.sqrt(1 / len(late) + 1 / len(early)))
    if strength < MIN_STRENGTH or abs(recent - earlier) < 0.2:
        return []
    section = "generous" if recent > earlier else "strict"
    text = _line(section, recent=f"{recent:.1f}", earlier=f"{earlier:.1f}", count=str(LATELY))
    return [Finding("drift", text, _ids(late), strength)]


def _choice_statistics(history: Sequence[Interaction]) -> list[Finding]:
    counts = Counter(one.outcome or "" for one in history)
    if len(counts) > len(history) / 2:
        return []
    text = _line("choices", shares=_shares(counts, len(history), 4))
    return [Finding("statistics", text, _ids(history), math.sqrt(len(history)))]


def _choice_tastes(history: Sequence[Interaction]) -> list[Finding]:
    counts = Counter(one.outcome or "" for one in history)
    found = []
    for value, group in _by_attribute(history).items():
        chosen_here = Counter(one.outcome or "" for one in group)
        option, count = min(chosen_here.items(), key=lambda pair: (-pair[1], pair[0]))
        base = counts[option] / len(history)
        strength = (count / len(group) - base) / math.sqrt(base * (1 - base) / len(group) + 1e-9)
        if strength < MIN_STRENGTH or count < 3:
            continue
        text = _line("prefers", value=value, option=option, count=str(count), total=str(len(group)))
        chosen = [one for one in group if one.outcome == option]
        found.append(Finding("taste", text, _ids(chosen), strength))
    return found


def _attribute_share(history: Sequence[Interaction]) -> list[Finding]:
    counts = Counter(value for one in history for value in attributes(one))
    if not counts or len(history) < MIN_SUPPORT:
        return []
    text = _line("often", values=_shares(counts, len(history), 4))
    return [Finding("statistics", text, _ids(history), 0.5)]


def _attribute_drift(history: Sequence[Interaction]) -> list[Finding]:
    if len(history) < 2 * LATELY:
        return []
    late, early = history[-LATELY:], history[:-LATELY]
    found = []
    for value, group in _by_attribute(history).items():
        late_group = [one for one in late if value in attributes(one)]
        recent = len(late_group) / len(late)
        earlier = (len(group) - len(late_group)) / len(early)
        pooled = len(group) / len(history)
        error = math.sqrt(pooled * (1 - pooled) * (1 / len(late) + 1 / len(early)))
        strength = abs(recent - earlier) / error
        if strength < 2:
            continue
        text = _line(
            "more" if recent > earlier else "less",
            value=value,
            recent=f"{100 * recent:.0f}%",
            earlier=f"{100 * earlier:.0f}%",
            count=str(LATELY),
        )
        found.append(Finding("drift", text, _ids(late_group or late), strength))
    return found


def _wording(history: Sequence[Interaction]) -> list[Finding]:
    texts = [one.outcome or "" for one in history]
    lengths = [len(text.split()) for text in texts]
    found = [
        Finding(
            "wording",
            _line("length", words=f"{fmean(lengths):.0f}"),
            _ids(history),
            math.sqrt(len(history)),
        )
    ]
    used = Counter(word for text in texts for word in {w.casefold() for w in WORD.findall(text)})
    own = [
        (word, count)
        for word, count in sorted(used.items(), key=lambda pair: (-pair[1], pair[0]))
        if count >= MIN_SUPPORT and word not in COMMON_WORDS
    ][:6]
    if own:
        text = _line("wording", words=", ".join(word for word, _ in own))
        found.append(Finding("wording", text, _ids(history), math.sqrt(own[0][1])))
    return found
