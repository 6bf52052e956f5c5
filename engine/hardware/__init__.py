"""Devices of this machine, their precision and measured speeds."""

from __future__ import annotations

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
