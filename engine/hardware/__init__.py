"""Devices of this machine, their precision and measured speeds."""

from __future__ import annotations

from typing import Any

from engine._deprecated import warn
from engine.hardware.accelerator_table import Accelerator
from engine.hardware.accelerators import accelerator, accelerators, find_accelerator
from engine.hardware.allocator import keep_freed_memory
from engine.hardware.measurements import measured, threads
from engine.hardware.precision import AUTO, resolved
from engine.hardware.products import TYPES, peak_speed, product_speed

__all__ = [
    "AUTO",
    "TYPES",
    "Accelerator",
    "accelerator",
    "accelerators",
    "find_accelerator",
    "keep_freed_memory",
    "measured",
    "peak_speed",
    "product_speed",
    "resolved",
    "threads",
]


def __getattr__(name: str) -> Any:
    if name == "ACCELERATORS":
        warn("engine.hardware.ACCELERATORS is now engine.hardware.accelerators()")
        return accelerators()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
