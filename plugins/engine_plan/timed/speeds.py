"""Measures how fast this machine trains a model, by timing one layer and the head.

A product's speed depends on its widths, attention is slower than other products, and everything else
takes up to half of a small model's step. So a layer with the model's own widths is run forward and
backward as in training; its speed is its counted FLOPs over the measured seconds. The head is timed
with its loss.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.hardware import keep_freed_memory, measured, product_speed
from engine_plan.timed.sample import Sample

_SECONDS = 0.1
"""Longest expected time of a layer's forward and backward pass. A layer that would take longer is timed
with fewer tokens, then in part."""
_LEAST_TOKENS = 128
_RUNS = 2
"""Number of timed passes, after a warm-up; the fastest counts."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """FLOPs per second in training, of whole layers and of the head with the loss."""

    layers: float
    head: float


def training_speeds(sample: Sample, device: str = "cpu") -> Speeds:
    """The speeds on all threads, measured in about half a second and cached.

    Raises RunError where the device does not exist or does not support the precision.
    """
    most = _SECONDS * product_speed(sample.precision, device)
    layer = _cut(sample, most, lambda s: s.flops.layers)
    head = _cut(sample, most, lambda s: s.flops.head)
    names = (f"layer {layer.words}", f"head {head.words}")

    def measure() -> dict[str, float]:
        from engine_plan.timed import probe

        keep_freed_memory()  # as a run does
        runs = (probe.layer(layer, device), probe.head(head, device))
        flops = (layer.flops.layers, head.flops.head)
        return {n: f / _seconds(r) for n, f, r in zip(names, flops, runs, strict=True)}

    found = measured(names, device, measure)
    return Speeds(*(found[name] for name in names))


def _cut(sample: Sample, most: float, flops: Callable[[Sample], float]) -> Sample:
    """Shrinks the sample to ``most`` FLOPs: first rows, then length, then vocabulary and widths, as far
    as needed."""
    one = replace(sample, shape=replace(sample.shape, experts=1, experts_per_token=1))
    while flops(one) > most and one.rows > 1:
        one = replace(one, rows=one.rows // 2)
    while flops(one) > most and one.sequence > _LEAST_TOKENS:
        one = replace(one, sequence=one.sequence // 2)
    while flops(one) > most and one.shape.hidden_size > 64:
        shape = one.shape
        half = replace(
            shape,
            hidden_size=shape.hidden_size // 2,
            intermediate_size=max(1, shape.intermediate_size // 2),
            vocabulary=max(1, shape.vocabulary // 2),
            heads=max(1, shape.heads // 2),
            kv_heads=max(1, shape.kv_heads // 2),
            head_size=shape.head_width,
        )
        one = replace(one, shape=half)
    return one


def _seconds(run: Callable[[], None]) -> float:
    """Seconds of the fastest pass."""
    best = float("inf")
    for number in range(1 + _RUNS):
        started = time.perf_counter()
        run()
        if number:
            best = min(best, time.perf_counter() - started)
    return best
