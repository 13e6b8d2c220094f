"""A server of our own that does not come up says so; that one comes up is shown by its users."""

from __future__ import annotations

import sys

import pytest

from persona_agent.errors import BackendError
from persona_agent.llm.served import served
from persona_agent.llm.serving import Serving


def test_a_server_that_ends_before_it_answers_is_told_of() -> None:
    plan = Serving((sys.executable, "-c", "raise SystemExit(3)"))
    with pytest.raises(BackendError, match="ended with 3"), served(plan, 9):
        pytest.fail("it never answered")


def test_a_server_that_hangs_is_told_of_and_ended() -> None:
    plan = Serving((sys.executable, "-c", "import time; time.sleep(600)"))
    with pytest.raises(BackendError, match="did not answer within 1 s"), served(plan, 9, start_s=1):
        pytest.fail("it never answered")
