"""The micro-batch, layer and head that :mod:`engine_plan.timed.speeds` times."""

from __future__ import annotations

from dataclasses import dataclass, replace

from engine import (
    Flops,
    ModelShape,
    Precision,
    Scores,
    token_flops,
)


@dataclass(frozen=True, slots=True)
class Sample:
    """What is timed: ``rows`` of ``sequence`` tokens, forward and backward through one layer and the
    head of a model of these sizes."""

    shape: ModelShape
    rows: int
    sequence: int
    scores: Scores
    precision: Precision

    @property
    def flops(self) -> Flops:
        """FLOPs of one layer, and of the head."""
        one = token_flops(replace(self.shape, layers=1, parameters=None), self.sequence)
        return one.times(self.rows * self.sequence)

    @property
    def words(self) -> str:
        """The key under which a measured speed is stored."""
        shape = self.shape
        widths = (shape.hidden_size, shape.intermediate_size, shape.vocabulary)
        heads = (shape.heads, shape.kv_heads, shape.head_width)
        kind = f"{'gated' if shape.gated else 'plain'} {self.scores} {self.precision}"
        return f"{widths} {heads} {self.rows}x{self.sequence} {kind}"
