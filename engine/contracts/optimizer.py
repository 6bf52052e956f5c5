"""Optimizers, learning-rate schedules and adapters."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from engine.contracts.amounts import Amount

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


class Optimizers(Protocol):
    """Returned by an optimizer's factory: builds the optimizer once the parameters exist.

    The strategy calls it on every rank, in :meth:`Strategy.prepare`.
    """

    def __call__(self, parameters: Sequence[tuple[str, Tensor]]) -> torch.optim.Optimizer:
        """Builds an optimizer over named parameters. Its groups have ``lr_scale``; its step honours
        the attributes ``grad_scale`` and ``found_inf``."""


@dataclass(frozen=True, slots=True)
class Progress:
    """Progress of a stage: the counters that schedule, budget and intervals are computed from.

    ``step`` and ``tokens`` are those done so far, over all ranks; ``epochs``: passes over the data;
    ``seconds``: time spent in training steps.
    """

    step: int
    tokens: int
    epochs: float
    seconds: float
    budget: Amount

    def reached(self, amount: Amount) -> float:
        """Progress as a multiple of ``amount``: 1.0 when it is just reached."""
        if amount.unit == "share":
            return self.reached(self.budget) / amount.value if amount.value else float("inf")
        counters = {
            "steps": self.step,
            "tokens": self.tokens,
            "epochs": self.epochs,
            "seconds": self.seconds,
        }
        return counters[amount.unit] / amount.value if amount.value else float("inf")


Schedule = Callable[[Progress], float]
"""Returns the factor on the peak learning rate at this point of the stage. Called on every rank before
each step, with the same progress."""


class Adapter(Protocol):
    """Adds trainable parameters to a model, and merges them for export.

    ``attach`` is called on every rank, by the factory of the model. ``merge`` is called on rank 0 when
    the stage is done, and on every rank for a copy of the model at the start of the stage, if the
    objective needs one.
    """

    def attach(self, model: nn.Module) -> nn.Module:
        """Inserts the adapter into the model and freezes everything else."""

    def merge(self, model: nn.Module) -> nn.Module:
        """Returns a plain model with the adapter's weights merged in."""
