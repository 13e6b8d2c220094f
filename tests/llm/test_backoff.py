from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from persona_agent.llm.backoff import MOST_PAUSE_S, Backoff, asked_pause

NOW = datetime(2026, 11, 25, 9, 0, 0, tzinfo=UTC)
USED_UP = {"x-ratelimit-remaining-requests": "0"}


@given(st.integers(0, 2000), st.integers())
def test_waits_grow_to_a_bound_and_are_half_of_it_at_least(attempt: int, seed: int) -> None:
    waits = Backoff(first_s=0.5, most_s=8.0)
    longest = min(8.0, 0.5 * 2.0 ** min(attempt, 10))
    assert longest / 2 <= waits.delay(attempt, Random(seed)) <= longest


def test_two_clients_do_not_wait_alike() -> None:
    assert len({Backoff().delay(3, Random(seed)) for seed in range(20)}) == 20


@pytest.mark.parametrize(
    ("status", "headers", "seconds"),
    [
        (429, {"retry-after": "3"}, 3.0),
        (503, {"retry-after": "0.5"}, 0.5),
        (429, {"retry-after-ms": "250", "retry-after": "9"}, 0.25),
        (429, {"retry-after": "Wed, 25 Nov 2026 09:00:07 GMT"}, 7.0),
        (429, {"retry-after": "Wed, 25 Nov 2026 08:00:00 GMT"}, 0.0),
        (200, {"retry-after": "3"}, 0.0),
        (429, {}, 0.0),
        (429, {"retry-after": "soon"}, 0.0),
        (429, {"retry-after": "-3"}, 0.0),
        (429, {"retry-after": "nan"}, 0.0),
        (429, {"retry-after": "1e9"}, MOST_PAUSE_S),
        (200, USED_UP | {"x-ratelimit-reset-requests": "1m30s"}, 90.0),
        (200, USED_UP | {"x-ratelimit-reset-requests": "20ms"}, 0.02),
        (200, USED_UP | {"x-ratelimit-reset-requests": "2"}, 2.0),
        (200, USED_UP | {"x-ratelimit-reset-requests": "2 moons"}, 0.0),
        (200, {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "4s"}, 4.0),
        (200, {"x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "4s"}, 0.0),
    ],
)
def test_the_pause_an_endpoint_asks_for(
    status: int, headers: dict[str, str], seconds: float
) -> None:
    assert asked_pause(status, headers, NOW) == pytest.approx(seconds)


@given(st.text(max_size=20), st.sampled_from(["retry-after", "retry-after-ms"]))
def test_no_header_breaks_it_or_stops_the_world(text: str, name: str) -> None:
    assert 0 <= asked_pause(429, {name: text}, NOW) <= MOST_PAUSE_S
