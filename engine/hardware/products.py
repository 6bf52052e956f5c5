"""Speed of torch's matrix products on this machine, measured in milliseconds and cached.

Speeds are measured because instruction flags do not tell them: without bf16 instructions torch's bf16
products run at a tenth of float32's speed, and an environment variable may turn instructions off.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from engine.contracts.component import Precision
from engine.errors import RunError
from engine.hardware.accelerators import accelerators
from engine.hardware.measurements import measured, threads

if TYPE_CHECKING:
    import torch


TYPES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""torch's names of the dtypes, by precision."""
_SIZES = {"cpu": (128, 256, 512), "cuda": (1024, 2048, 4096)}
"""Rows of square matrices; the largest is used whose product takes at most ``_SECONDS_A_PRODUCT``."""
_SECONDS_A_PRODUCT = 0.02
_SECONDS = 0.05
"""Seconds spent on each precision, without warm-up."""
_LEAST_ROUNDS = 3


def product_speed(precision: Precision, device: str = "cpu") -> float:
    """FLOP/s of torch's matrix products with its present number of threads.

    Raises RunError if the device does not exist or cannot multiply in this precision.
    """
    return product_speeds([precision], device)[precision]


def product_speeds(precisions: Sequence[Precision], device: str = "cpu") -> dict[Precision, float]:
    """The speeds of :func:`product_speed`, to be compared: those that are not known yet are measured
    alternately, so that other load on the machine slows all alike."""
    names = {one: f"product {one}" for one in precisions}
    found = measured(list(names.values()), device, lambda: _measure(names, device))
    for precision, name in names.items():
        if not found[name]:
            raise RunError(f"torch cannot multiply matrices in {precision} on device {device}")
    return {precision: found[name] for precision, name in names.items()}


def peak_speed(precision: Precision, device: str, processes: int) -> float | None:
    """Peak FLOP/s of the device of one of a machine's ``processes``, which share a CPU's cores: that of
    its data sheet, or on a CPU the measured speed of matrix products; None if neither is known."""
    if device.partition(":")[0] == "cpu":
        with contextlib.suppress(RunError):
            share = (os.cpu_count() or 1) / (threads() * processes)
            return product_speed(precision, "cpu") * min(1, share)
        return None
    import torch

    known = accelerators().get(torch.cuda.get_device_name(device))
    return known.peak(precision) if known else None


def _measure(names: Mapping[Precision, str], device: str) -> dict[str, float]:
    """Best speed of each precision, by its name; 0 if unsupported."""
    import torch

    kind = device.partition(":")[0]
    if kind != "cpu" and not (kind == "cuda" and torch.cuda.is_available()):
        raise RunError(f"torch finds no device {device} here")
    found = dict.fromkeys(names.values(), 0.0)
    products = {}
    for precision in names:
        try:
            products[precision] = _product(precision, device, kind)
        except (RuntimeError, NotImplementedError):  # the message differs between torch versions
            continue
    best = dict.fromkeys(products, float("inf"))
    until, rounds = time.perf_counter() + _SECONDS * len(products), 0
    while rounds < _LEAST_ROUNDS or time.perf_counter() < until:
        for precision, (_, seconds) in products.items():
            best[precision] = min(best[precision], seconds())
        rounds += 1
    for precision, (flops, _) in products.items():
        found[names[precision]] = flops / best[precision]
    return found


def _product(precision: Precision, device: str, kind: str) -> tuple[float, Callable[[], float]]:
    """FLOPs of a warmed-up product, and a function that computes it once and returns the seconds."""
    for rows in _SIZES[kind]:
        seconds = _timed(_matrix(precision, rows, device), device, kind)
        seconds()  # kernels are chosen or made at the first call
        if 8 * min(seconds() for _ in range(3)) > _SECONDS_A_PRODUCT:  # the next has twice the rows
            break
    return 2.0 * rows**3, seconds


def _matrix(precision: Precision, rows: int, device: str) -> torch.Tensor:
    import torch

    dtype: torch.dtype = getattr(torch, TYPES[precision])
    return torch.ones(rows, rows, device=device).to(dtype)


def _timed(matrix: torch.Tensor, device: str, kind: str) -> Callable[[], float]:
    import torch

    def seconds() -> float:
        started = time.perf_counter()
        with torch.no_grad():
            matrix @ matrix
        if kind == "cuda":
            torch.cuda.synchronize(device)
        return time.perf_counter() - started

    return seconds
