"""The candidate bus: items go by it from tool to tool, and the model sees numbers.

Source: InteRecAgent (Huang et al. 2023), whose tools pass candidates on outside the prompt.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field

from persona_agent.types import Scope

MOST_SCOPES = 1000
MOST_CANDIDATES = 200
MOST_NUMBERS = 200


@dataclass(slots=True)
class _Lane:
    """One scope's candidates, and the numbers that it was shown, oldest first."""

    candidates: tuple[str, ...] = ()
    items: OrderedDict[int, str] = field(default_factory=OrderedDict)
    numbers: dict[str, int] = field(default_factory=dict)
    next: int = 1


class CandidateBus:
    """Keeps each scope's last candidates, and which number stands for which item.

    A number keeps its item as long as it is known, and an item its number, so that a number from
    an earlier step cannot come to mean something else. Bounded: of scopes, those used least
    lately go; of a scope's numbers, the oldest. Safe to use from many threads.
    """

    def __init__(
        self,
        *,
        scopes: int = MOST_SCOPES,
        candidates: int = MOST_CANDIDATES,
        numbers: int = MOST_NUMBERS,
    ) -> None:
        given = (("scopes", scopes), ("candidates", candidates), ("numbers", numbers))
        for name, value in given:
            if value < 1:
                raise ValueError(f"{name} is {value}; it must be at least 1")
        self.most_candidates = candidates
        self._most_scopes = scopes
        self._most_numbers = numbers
        self._lanes: OrderedDict[Scope, _Lane] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._lanes)

    def put(self, scope: Scope, candidates: Sequence[str], shown: int) -> list[int]:
        """Keep candidates, best first, and return the numbers of the first `shown`."""
        with self._lock:
            lane = self._lane(scope)
            lane.candidates = tuple(candidates[: self.most_candidates])
            return [self._number(lane, item) for item in candidates[:shown]]

    def candidates(self, scope: Scope) -> tuple[str, ...]:
        """Return what was put last, best first; nothing for a scope that has none."""
        with self._lock:
            lane = self._lanes.get(scope)
            return () if lane is None else lane.candidates

    def item(self, scope: Scope, number: int) -> str | None:
        """Return the item that this number stands for; None if the scope has no such number."""
        with self._lock:
            lane = self._lanes.get(scope)
            return None if lane is None else lane.items.get(number)

    def forget(self, scope: Scope) -> int:
        """Forget a user's candidates and numbers; return of how many agents and runs."""
        with self._lock:
            gone = [one for one in self._lanes if one.owner == scope.owner]
            for one in gone:
                del self._lanes[one]
        return len(gone)

    def _lane(self, scope: Scope) -> _Lane:
        lane = self._lanes.setdefault(scope, _Lane())
        self._lanes.move_to_end(scope)
        while len(self._lanes) > self._most_scopes:
            self._lanes.popitem(last=False)
        return lane

    def _number(self, lane: _Lane, item: str) -> int:
        number = lane.numbers.get(item)
        if number is not None:
            lane.items.move_to_end(number)
            return number
        number, lane.next = lane.next, lane.next + 1
        lane.numbers[item], lane.items[number] = number, item
        while len(lane.items) > self._most_numbers:
            _, old = lane.items.popitem(last=False)
            del lane.numbers[old]
        return number
