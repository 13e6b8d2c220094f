"""What a study may say of its contrasts, by rules that were fixed before it ran."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from persona_agent.eval.statistics import Contrast
from persona_agent.types import Record

LEVEL = 0.05


@dataclass(frozen=True, slots=True)
class Effect(Record):
    """A contrast, and its mean in each split: a sign that turns with the split means little."""

    contrast: Contrast
    by_split: tuple[float, ...]


def verdict(
    main: Mapping[str, Effect], simple: Mapping[str, Effect], best: Effect, name: str
) -> tuple[str, ...]:
    """Return what may be said, by rules that were fixed before the study ran.

    "Relations help" needs both relation and true facts above 0 after Holm; "they stack" needs both
    simple effects above 0 and an interaction that is not below it.
    """
    relation, facts, personas = (_sign(main[one]) for one in ("relation", "true facts", "personas"))
    said = []
    if relation > 0 and facts > 0:
        said.append("Relations help, and it is the true facts that do.")
    elif relation > 0:
        said.append("The graph helps, but shuffled facts are not shown to help less.")
    else:
        said.append(f"Relations {_not_shown(main['relation'])}.")
    if personas > 0:
        said.append("Personas help.")
    else:
        said.append(f"Personas {_not_shown(main['personas'])}.")
    said.append(_stacking(main["relation x personas"], simple))
    interval = best.contrast.interval
    if interval.low > 0:
        said.append(f"The best cell on validation, {name}, beats tuned EASE.")
    elif interval.high < 0:
        said.append(f"The best cell on validation, {name}, is worse than tuned EASE.")
    else:
        said.append(f"The best cell on validation, {name}, cannot be told from tuned EASE.")
    return tuple(said)


def _stacking(stacking: Effect, simple: Mapping[str, Effect]) -> str:
    alone = [simple["relation at K=1"], simple["personas without relation"]]
    both = simple["both"].contrast.interval
    if all(one.contrast.interval.low > 0 for one in alone):
        if _sign(stacking) >= 0:
            return "They stack: each helps alone, and together no less than their sum."
        if both.mean > max(one.contrast.interval.mean for one in alone):
            return "They are sub-additive: together less than their sum, more than either."
        return "They do not stack: together no more than the better of the two."
    return f"That they stack is not shown: not both help alone{_bound(stacking)}."


def _sign(effect: Effect) -> int:
    """Return whether an effect is above (1) or below 0 (-1) after Holm, or neither (0)."""
    if effect.contrast.p_holm >= LEVEL:
        return 0
    return 1 if effect.contrast.interval.mean > 0 else -1


def _not_shown(effect: Effect) -> str:
    return "make it worse" if _sign(effect) < 0 else f"are not shown to help{_bound(effect)}"


def _bound(effect: Effect) -> str:
    return f" (an effect of {effect.contrast.detectable:.3f} would have been seen)"
