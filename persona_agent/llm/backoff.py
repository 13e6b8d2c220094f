"""How long to wait before asking an endpoint again: by our own measure, and by the endpoint's."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from random import Random

RETRIED = (408, 409, 429)  # and 500 and above, but for what an endpoint does not implement
NOT_IMPLEMENTED = 501
MOST_PAUSE_S = 300.0  # no header keeps an endpoint from being asked for longer
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential waiting with jitter: at most `most_s`, of which half or more is waited."""

    retries: int = 2
    first_s: float = 0.5
    most_s: float = 8.0

    def __post_init__(self) -> None:
        if self.retries < 0:
            raise ValueError(f"max_retries is {self.retries}; it must be 0 or more")
        if not 0 <= self.first_s <= self.most_s:
            raise ValueError(
                f"first_s is {self.first_s} and most_s {self.most_s}; 0 <= first_s <= most_s is due"
            )

    def delay(self, attempt: int, rng: Random) -> float:
        """Return the seconds to wait after the failed `attempt`, counted from 0."""
        longest = min(self.most_s, self.first_s * 2.0 ** min(attempt, 60))
        return longest * (0.5 + rng.random() / 2)


def is_passing(status: int) -> bool:
    """Return whether a failure of this status may be gone when asked again.

    >>> is_passing(503), is_passing(400)
    (True, False)
    """
    return (status >= 500 and status != NOT_IMPLEMENTED) or status in RETRIED


def asked_pause(status: int, headers: Mapping[str, str], now: datetime) -> float:
    """Return for how many seconds an endpoint asks to be left alone, at most MOST_PAUSE_S; else 0.

    After 429 and 5xx that is `retry-after-ms` or `retry-after`, in seconds or as a date. Without
    either, and after an answer, it is the time until a used-up limit is filled up again:
    `x-ratelimit-reset-requests` where `x-ratelimit-remaining-requests` is 0, the same for tokens.
    A header that cannot be read asks for nothing. `headers` are looked up in lower case.

    >>> asked_pause(429, {"retry-after": "3"}, datetime.now(UTC))
    3.0
    """
    asked = None
    if is_passing(status):
        asked = _number(headers.get("retry-after-ms"), 0.001)
        if asked is None:
            asked = _moment(headers.get("retry-after"), now)
    if asked is None:
        asked = max(_until_filled(headers, what) for what in ("requests", "tokens"))
    return min(asked, MOST_PAUSE_S)


def _until_filled(headers: Mapping[str, str], what: str) -> float:
    if (headers.get(f"x-ratelimit-remaining-{what}") or "").strip() != "0":
        return 0.0
    reset = (headers.get(f"x-ratelimit-reset-{what}") or "").strip()
    plain = _number(reset, 1.0)
    if plain is not None:
        return plain
    parts = _DURATION.findall(reset)
    if "".join(number + unit for number, unit in parts) != reset:
        return 0.0
    return sum(float(number) * _SECONDS[unit] for number, unit in parts)


def _number(text: str | None, unit: float) -> float | None:
    try:
        value = float(text or "") * unit
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _moment(text: str | None, now: datetime) -> float | None:
    seconds = _number(text, 1.0)
    if seconds is not None or not text:
        return seconds
    try:
        due = parsedate_to_datetime(text)
    except ValueError:
        return None
    due = due if due.tzinfo is not None else due.replace(tzinfo=UTC)
    return max(0.0, (due - now).total_seconds())
