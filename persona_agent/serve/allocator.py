"""What the C library does with memory that is free again."""

from __future__ import annotations

import ctypes

M_MMAP_THRESHOLD = -3  # of mallopt(3)
LARGE = 256 << 10  # bytes: what one batch of turns takes is larger, what stays is smaller


def return_large_blocks() -> None:
    """Have blocks of `LARGE` bytes and more go back to the system as soon as they are free.

    The GNU C library raises that bound to 32 MiB by itself, as large blocks are freed. From then on
    they come from arenas, one a thread, which keep what is free for as long as something small lies
    behind it: of a worker's 500 MB that was 140. Does nothing where there is another C library.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_MMAP_THRESHOLD, LARGE)
