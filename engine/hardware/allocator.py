"""Keeps freed memory instead of returning it to the kernel after every operation."""

from __future__ import annotations

import contextlib
import ctypes

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_MAX = -1, -2, -4  # malloc.h
_SETTINGS = ((_M_TRIM_THRESHOLD, 2**31 - 1), (_M_TOP_PAD, 1 << 28), (_M_MMAP_MAX, 0))


def keep_freed_memory() -> None:
    """Makes glibc's malloc keep freed memory; does nothing with another C library.

    On CPUs megabytes of activations are freed and allocated in every step, and faulting their pages in
    again took a quarter of a training step.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        for parameter, value in _SETTINGS:
            mallopt(parameter, value)
