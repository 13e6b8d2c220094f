"""Failpoints: named places where a test can kill the process, to see what is left.

`PERSONA_AGENT_FAILPOINT=NAME` or `NAME:N` in the environment, read once at import, kills the
process with SIGKILL when it comes to that place for the first or the Nth time. Unset, a failpoint
is a function that does nothing.
"""

from __future__ import annotations

import os
import signal
from itertools import count

NAMES = ("add-before-commit", "add-after-commit", "job-claimed", "job-before-commit",
         "forget-before-commit", "forget-after-commit",
         "adapter-before-rename", "adapter-before-commit")  # fmt: skip


def _nothing(name: str) -> None:
    """Do nothing, as everywhere but in a test."""


_setting = os.environ.get("PERSONA_AGENT_FAILPOINT", "")
failpoint = _nothing
if _setting:
    _wanted, _, _number = _setting.partition(":")
    if _wanted not in NAMES:  # a misspelt one must not pass as a test in which nothing broke
        raise ValueError(f"PERSONA_AGENT_FAILPOINT names {_wanted!r}; known: {', '.join(NAMES)}")
    _passes = count(1)
    _fatal = int(_number or 1)

    def _kill(name: str) -> None:
        if name == _wanted and next(_passes) == _fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    failpoint = _kill
