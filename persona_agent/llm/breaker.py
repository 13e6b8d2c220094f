"""A circuit breaker: when to stop asking an endpoint that does not answer, and when to try again.

A pure state machine: values go in and come out, and whoever holds it says what time it is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

Verdict: TypeAlias = Literal["go", "probe", "wait", "refuse"]


@dataclass(frozen=True, slots=True)
class Breaker:
    """What is known of an endpoint's health. It opens after `limit` failures in a row.

    While it is open nothing is asked for `pause_s` seconds. Then one request may try, the probe:
    if it is answered the breaker closes, if it fails the pause begins again. `opened_at` is None
    while it is closed; `reason` says, in words, what failed last.
    """

    limit: int = 5
    pause_s: float = 5.0
    failures: int = 0
    opened_at: float | None = None
    probing: bool = False
    reason: str = ""

    def __post_init__(self) -> None:
        if self.limit < 1:
            raise ValueError(f"limit is {self.limit}; it must be at least 1")
        if self.pause_s < 0:
            raise ValueError(f"pause_s is {self.pause_s}; it must be 0 or more")

    def verdict(self, now: float) -> Verdict:
        """Return whether a request may be sent: `go`; `probe`, as the one that tries; `wait`
        until the probe is back; or `refuse`.
        """
        if self.opened_at is None:
            return "go"
        if self.probing:
            return "wait"
        return "probe" if self.opens_in(now) <= 0 else "refuse"

    def opens_in(self, now: float) -> float:
        """Return the seconds until a probe may be sent; 0 or less if it may now."""
        return 0.0 if self.opened_at is None else self.opened_at + self.pause_s - now

    def probed(self) -> Breaker:
        """Return the state while the probe is under way."""
        return replace(self, probing=True)

    def succeeded(self) -> Breaker:
        """Return the state after an answer: closed, nothing held against the endpoint."""
        return Breaker(self.limit, self.pause_s)

    def failed(self, now: float, reason: str, *, fatal: bool = False) -> Breaker:
        """Return the state after a failure; a `fatal` one opens the breaker at once.

        A request that was sent before the breaker opened changes nothing when it fails after.
        """
        if self.opened_at is not None and not self.probing:
            return self
        failures = self.failures + 1
        opens = fatal or self.probing or failures >= self.limit
        return replace(
            self,
            failures=failures,
            opened_at=now if opens else None,
            probing=False,
            reason=reason,
        )

    def abandoned(self) -> Breaker:
        """Return the state after a probe that was cancelled: the next request may be the probe."""
        return replace(self, probing=False)
