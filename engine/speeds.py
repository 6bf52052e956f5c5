"""How fast this machine trains a model of some widths: one layer and one head are timed.

A product's speed depends on its widths, attention's are slower than a layer's, and what lies
between takes up to half of a small model's step. So a layer of the model's own widths is run
forward and backward as training runs it; FLOPs that are counted for it over seconds that it took
are its speed. The head is timed with its loss.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

from engine.activations import Scores
from engine.flops import Flops, token_flops
from engine.launch import Process
from engine.layout import ModelShape
from engine.measured import measured
from engine.products import Precision, product_speed

_SECONDS = 0.1
"""That a layer, forward and backward, may take by the speed of products; one that would take more is
timed with fewer tokens, then in part."""
_LEAST_TOKENS = 128
_RUNS = 2
"""That are timed, after one that is not; the faster counts."""


@dataclass(frozen=True, slots=True)
class Speeds:
    """FLOPs a second in training: of layers, with all that they do beside products, and of the head
    with the loss."""

    layers: float
    head: float


@dataclass(frozen=True, slots=True)
class Sample:
    """What is timed: ``rows`` of ``sequence`` tokens, forward and backward through one layer and the
    head of such a model."""

    shape: ModelShape
    rows: int
    sequence: int
    scores: Scores
    precision: Precision

    @property
    def flops(self) -> Flops:
        """Of one layer, and of the head."""
        one = token_flops(replace(self.shape, layers=1), self.sequence)
        return one.times(self.rows * self.sequence)

    @property
    def words(self) -> str:
        """What a figure is kept under."""
        shape = self.shape
        widths = (shape.hidden_size, shape.intermediate_size, shape.vocabulary)
        heads = (shape.heads, shape.kv_heads, shape.head_width)
        kind = f"{'gated' if shape.gated else 'plain'} {self.scores} {self.precision}"
        return f"{widths} {heads} {self.rows}x{self.sequence} {kind}"


def training_speeds(sample: Sample, device: str = "cpu") -> Speeds:
    """On all threads together: measured in about half a second, and remembered.

    Raises RunError where there is no such device or it does not compute in this precision.
    """
    most = _SECONDS * product_speed(sample.precision, device)
    layer = _cut(sample, most, lambda s: s.flops.layers)
    head = _cut(sample, most, lambda s: s.flops.head)
    names = (f"layer {layer.words}", f"head {head.words}")

    def measure() -> dict[str, float]:
        from engine import probe

        Process().tune()  # as a run does
        runs = (probe.layer(layer, device), probe.head(head, device))
        flops = (layer.flops.layers, head.flops.head)
        return {n: f / _seconds(r) for n, f, r in zip(names, flops, runs, strict=True)}

    found = measured(names, device, measure)
    return Speeds(*(found[name] for name in names))


def _cut(sample: Sample, most: float, flops: Callable[[Sample], float]) -> Sample:
    """Of at most so many FLOPs: of fewer rows, shorter ones, a smaller vocabulary and narrower layers
    as far as that is needed."""
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
    """Of the fastest."""
    best = float("inf")
    for number in range(1 + _RUNS):
        started = time.perf_counter()
        run()
        if number:
            best = min(best, time.perf_counter() - started)
    return best
