"""How fast torch's matrix products are here: measured in milliseconds, and remembered.

Which precision is fast no list of instructions tells: on a processor without bf16's own, torch's
bf16 products run at a tenth of float32's, and an environment variable may turn instructions off.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from engine.errors import RunError
from engine.measured import measured

if TYPE_CHECKING:
    import torch

Precision = Literal["fp32", "bf16", "fp16"]

TYPES: dict[Precision, str] = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}
"""torch's names of its types."""
_SIZES = {"cpu": (128, 256, 512), "cuda": (1024, 2048, 4096)}
"""Rows of square matrices, of which the largest is taken whose product is no slower than this."""
_SECONDS_A_PRODUCT = 0.02
_SECONDS = 0.05
"""Spent on each precision, warm-up aside."""
_LEAST_ROUNDS = 3


def product_speed(precision: Precision, device: str = "cpu") -> float:
    """FLOPs a second that torch's products of matrices reach, on all threads that it has now.

    Raises RunError where there is no such device, or it cannot multiply in this precision.
    """
    kind = device.partition(":")[0]
    names = [f"product {one}" for one in TYPES]
    speed = measured(names, device, lambda: _measure(device, kind))[f"product {precision}"]
    if not speed:
        raise RunError(f"torch multiplies no matrices in {precision} on device {device}")
    return speed


def _measure(device: str, kind: str) -> dict[str, float]:
    """All precisions alternately, so that what else the machine does falls on all alike: the best of
    each, 0 for what there is not."""
    import torch

    if kind != "cpu" and not (kind == "cuda" and torch.cuda.is_available()):
        raise RunError(f"torch finds no device {device} here")
    found = {f"product {precision}": 0.0 for precision in TYPES}
    products = {}
    for precision in TYPES:
        try:
            products[precision] = _product(precision, device, kind)
        except (RuntimeError, NotImplementedError):  # torch's own, of each version in other words
            continue
    best = dict.fromkeys(products, float("inf"))
    until, rounds = time.perf_counter() + _SECONDS * len(products), 0
    while rounds < _LEAST_ROUNDS or time.perf_counter() < until:
        for precision, (_, seconds) in products.items():
            best[precision] = min(best[precision], seconds())
        rounds += 1
    for precision, (flops, _) in products.items():
        found[f"product {precision}"] = flops / best[precision]
    return found


def _product(precision: Precision, device: str, kind: str) -> tuple[float, Callable[[], float]]:
    """FLOPs of a product, warm, and what does it once and says in how many seconds."""
    for rows in _SIZES[kind]:
        seconds = _timed(_matrix(precision, rows, device), device, kind)
        seconds()  # kernels are chosen or made at the first call
        if 8 * min(seconds() for _ in range(3)) > _SECONDS_A_PRODUCT:  # twice as many rows
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
