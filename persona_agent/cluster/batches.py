"""Users in small batches, handed out one by one, and given to another worker when they are lost."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from persona_agent.types import Record


@dataclass(frozen=True, slots=True)
class Batch(Record):
    """Users that one worker has at one time; `attempt` counts from 1."""

    users: tuple[str, ...]
    attempt: int = 1


class Batches:
    """A queue of batches. Every user is in one batch, is out with one worker, or has ended.

    A batch that is lost waits at the front of the queue, `attempts` times in all. The last
    attempt is made user by user, so that one user who kills every worker takes no other along.

    >>> batches = Batches(["a", "b", "c"], size=2, attempts=2)
    >>> first = batches.take()
    >>> batches.lost(first), batches.take()
    ((), Batch(users=('a',), attempt=2))
    """

    def __init__(self, users: Sequence[str], *, size: int, attempts: int) -> None:
        if size < 1:
            raise ValueError(f"a batch has {size} users; it must have at least 1")
        if attempts < 1:
            raise ValueError(f"attempts is {attempts}; it must be at least 1")
        self._attempts = attempts
        self._out = 0
        self._waiting = deque(
            Batch(tuple(users[start : start + size])) for start in range(0, len(users), size)
        )

    @property
    def has_ended(self) -> bool:
        """Whether no batch waits and none is out."""
        return not self._waiting and not self._out

    @property
    def waiting(self) -> int:
        """How many batches wait."""
        return len(self._waiting)

    def take(self) -> Batch | None:
        """Return the next batch, which is out from now on; None if none waits."""
        if not self._waiting:
            return None
        self._out += 1
        return self._waiting.popleft()

    def done(self, batch: Batch) -> None:
        """Note that a batch came back done."""
        self._out -= 1

    def lost(self, batch: Batch) -> tuple[str, ...]:
        """Note that a batch will not come back; return the users for whom that was the last try."""
        self._out -= 1
        attempt = batch.attempt + 1
        if attempt > self._attempts:
            return batch.users
        alone = attempt == self._attempts
        parts = [(user,) for user in batch.users] if alone else [batch.users]
        self._waiting.extendleft(Batch(part, attempt) for part in reversed(parts))
        return ()

    def give_up(self) -> tuple[str, ...]:
        """Return the users of all batches that wait; none waits then."""
        left = tuple(user for batch in self._waiting for user in batch.users)
        self._waiting.clear()
        return left
