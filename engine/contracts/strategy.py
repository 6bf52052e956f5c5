"""Parallel strategies: everything that differs between one process and many."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from engine._deprecated import warn
from engine.contracts.batch import Batch, Loss, Penalty
from engine.contracts.optimizer import Optimizers

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class ParameterTerm:
    """A term of the loss that depends on parameters: weight · Σ parameter_loss of a penalty.

    ``name``: in events; ``kept``: by parameter, what the penalty keeps beside it, whole.
    """

    name: str
    weight: float
    penalty: Penalty
    kept: Mapping[str, Mapping[str, Tensor]]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a strategy needs to make a model trainable.

    ``frozen``: models used by the objective that are not trained; ``ema``: decay of the averaged
    weights; ``parameter_terms``: to be added to the loss, as :class:`engine.modeling.ParameterTerms`
    does. ``activation_checkpointing`` recomputes whole layers (``full`` or True), or all but their
    products with weights (``selective``); a strategy that supports only ``full`` uses it for both.
    """

    model: nn.Module
    optimizer: Optimizers
    objective: Loss
    frozen: Mapping[str, nn.Module] = field(default_factory=dict)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    activation_checkpointing: Literal["selective", "full"] | bool = False
    offload_activations: bool = False
    ema: float | None = None
    seed: int = 0
    parameter_terms: Sequence[ParameterTerm] = ()

    @property
    def build(self) -> Callable[[], nn.Module]:
        """The former name of :attr:`model`, which was a function once."""
        warn("Setup.build() is now Setup.model")
        return lambda: self.model


@dataclass(frozen=True, slots=True)
class Step:
    """Result of one optimizer step. Its tensors are scalars, on the device until they are read.

    ``grad_norm``: before clipping; ``skipped``: whether the update was skipped; ``companions``:
    gradient norms of the models trained beside the stage's own, by name.
    """

    grad_norm: Tensor
    skipped: Tensor
    companions: Mapping[str, Tensor] = field(default_factory=dict)


class Strategy(ABC):
    """Base of strategies: everything that differs between one process and many, forward and backward
    included.

    Every rank calls ``prepare``, then ``state`` and ``load`` if the stage is resumed; in each step
    ``forward_backward``, ``gradient_norm`` if several models are trained, and ``step``; ``state`` for
    each checkpoint and ``inference`` for each evaluation; when the stage is done, ``inference``,
    ``export`` and ``exports``; ``all_sum`` at any time.

    This process reads part ``data_rank`` of ``data_size`` of each global batch; ``ranks_per_sample``
    processes, each with a part of the model, read the same part. The loop cuts a step into at least
    ``min_micro_batches`` if it has the rows: a pipeline needs one per stage to keep all of them busy.
    """

    data_rank: int
    data_size: int
    ranks_per_sample: int = 1
    min_micro_batches: int = 1

    @abstractmethod
    def prepare(self, setup: Setup) -> None:
        """Builds, places and wraps model and optimizer."""

    @abstractmethod
    def forward_backward(
        self, micro_batches: Sequence[Batch], counts: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """Accumulates the gradient of Σ_terms sum/count; returns this rank's sums by term, detached
        float32 scalars.

        Sums of parameter terms are such that those of all ranks add up to the term. ``counts``: terms
        over all ranks and micro-batches. Ranks that share samples return the same
        sums. Every rank gets equally many micro-batches; those with 0 tokens add nothing.
        """

    @abstractmethod
    def gradient_norm(self) -> Tensor:
        """Global norm of the accumulated gradient, a scalar, the same on every rank; collective.

        Called only if several models are trained, since they must skip a step together.
        """

    @abstractmethod
    def step(self, lr: float, max_norm: float | None, spike_limit: float) -> Step:
        """Clips the gradient to ``max_norm`` and updates the weights, unless the norm is not finite or
        above ``spike_limit``."""

    @abstractmethod
    def inference(self, *, averaged: bool = True) -> AbstractContextManager[nn.Module]:
        """Context with the whole model for generation and scoring.

        It has the averaged weights if there are any; with ``averaged=False``, those being trained. All
        ranks must enter; inside, any rank may call the model alone.
        """

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Nested dict of tensors and plain values to save; a checkpoint is loaded into it in place.

        A key names the same tensor on all ranks: one that differs is a DTensor, or has the rank in its
        key.
        """

    @abstractmethod
    def load(self, state: dict[str, Any]) -> None:
        """Restores from ``state``, the dict of :meth:`state` after a checkpoint was loaded into it."""

    @abstractmethod
    def export(self) -> Iterator[tuple[str, Tensor]]:
        """Yields the final weights, whole, by their names in transformers; collective."""

    def all_sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums values over the data ranks; every rank passes the same keys and gets the same sums.

        Ranks that share samples count once, by their mean, so a nonzero value on any rank gives a
        nonzero sum.
        """
        if self.data_size * self.ranks_per_sample == 1:
            return dict(values)
        import torch
        import torch.distributed as dist

        names = sorted(values)
        total = torch.tensor([values[n] for n in names], dtype=torch.float64)
        dist.all_reduce(total)
        # Divided at the end: thirds would not add up to whole numbers.
        total /= self.ranks_per_sample
        return dict(zip(names, total.tolist(), strict=True))

    def companions(self) -> AbstractContextManager[Mapping[str, nn.Module]]:
        """Context with the models trained beside the stage's own, by name, for scoring; all ranks must
        enter."""
        return nullcontext({})

    def exports(self) -> Iterator[tuple[str, nn.Module, Iterator[tuple[str, Tensor]]]]:
        """Yields name, module as built, and final weights of each model trained beside the stage's own;
        collective."""
        return iter(())
