"""Large blocks come from the system alone, though larger ones were freed before."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

SEPARATE = """
import ctypes, sys
from persona_agent.serve.allocator import LARGE, return_large_blocks

class Info(ctypes.Structure):  # mallinfo2(3)
    _fields_ = [(name, ctypes.c_size_t) for name in (
        "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost".split())]

mallinfo = ctypes.CDLL(None).mallinfo2
mallinfo.restype = Info
if sys.argv[1] == "set":
    return_large_blocks()
freed = bytes(20 << 20)
del freed
before = mallinfo().hblks
held = [bytes(2 * LARGE) for _ in range(8)]
print(mallinfo().hblks - before)
"""


@pytest.mark.parametrize(("given", "separate"), [("set", 8), ("left", 0)])
def test_what_is_large_has_a_place_of_its_own(given: str, separate: int) -> None:
    if not hasattr(ctypes.CDLL(None), "mallinfo2"):
        pytest.skip("not the GNU C library")
    done = subprocess.run(
        [sys.executable, "-c", SEPARATE, given], capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == separate
