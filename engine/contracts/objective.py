"""Contracts of training objectives, and of loops that replace the engine's."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from engine.contracts.amounts import Amount
from engine.contracts.batch import Batch, Example, Examples, Loss
from engine.contracts.callback import Callback
from engine.contracts.component import Precision
from engine.contracts.feed import Feed, FeedSetup
from engine.contracts.language_model import LanguageModel
from engine.contracts.optimizer import Optimizers, Progress, Schedule
from engine.contracts.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn


class Objective(Examples, Loss):
    """Training objective. Implement ``encode``, ``collate`` and ``loss``; the rest has defaults.

    Called on every rank, in this order: ``check``; ``encode`` for all records and then ``arrange``, or
    ``encode_window`` for each window that is read; ``freeze``, ``attach``, ``strategy`` and ``feed``;
    in each step, for this rank's micro-batches, ``collate``, ``observe`` and ``settle``, ``annotate``
    and ``loss``; when the stage is done, ``keep``.

    Stateless; the loss is computed inside the wrapped model.
    """

    observes: ClassVar[bool] = False
    """True if the loss depends on means over the global batch, which :meth:`observe` measures before
    the backward pass."""

    @abstractmethod
    def collate(self, examples: Sequence[Example]) -> Batch:
        """Collates examples into one micro-batch."""

    def attach(self, model: nn.Module) -> None:
        """Registers hooks on the model to be trained, before the strategy wraps or shards it."""

    def freeze(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The frozen models that :meth:`annotate` uses, by name; ``model``: the model at the start of
        the stage."""
        return {}

    def observe(self, batch: Batch, model: nn.Module) -> dict[str, tuple[float, float]]:
        """Named (sum, count) pairs over a micro-batch, from the whole model's current weights; called
        without gradient."""
        raise NotImplementedError

    def settle(self, batch: Batch, observed: Mapping[str, float]) -> Batch:
        """Adds to the batch the means of the observed values over the global batch."""
        raise NotImplementedError

    def strategy(
        self,
        build: Callable[[], Strategy],
        start: Callable[[], nn.Module],
        callbacks: Sequence[Callback],
        precision: Precision,
    ) -> Strategy:
        """The strategy that trains the model: by default the stage's, which each call of ``build``
        builds anew.

        If other models are trained as well, one strategy for all of them. ``start`` returns the model
        at the start of the stage, without an adapter, to be copied.
        """
        return build()

    def feed(self, setup: FeedSetup) -> Feed | None:
        """The feed of micro-batches; None uses the examples in their order."""
        return None

    def keep(self, lm: LanguageModel, examples: Sequence[Example]) -> dict[str, Any]:
        """Fields to add to the trained model's config.json; ``examples``: the training examples."""
        return {}


@dataclass(frozen=True, slots=True)
class Job:
    """A train stage, as given to an external loop.

    ``lr``: peak learning rate; ``folder``: for the loop's temporary files; ``log``: to be called after
    each step with the progress and the step's metrics.
    """

    model: nn.Module
    tokenizer: Any
    examples: Sequence[Example]
    examples_per_step: int
    budget: Amount
    lr: float
    optimizer: Optimizers
    schedule: Schedule
    seed: int
    folder: str
    log: Callable[[Progress, Mapping[str, float]], None]


class ExternalLoop(Examples):
    """Objective whose training loop belongs to a library; cannot be resumed.

    Called on every rank: ``check``, ``encode`` and ``arrange`` as of an :class:`Objective`, then
    ``train`` and ``others``.

    Returned by the factory of an objective whose configuration sets ``external_loop``. Its examples
    have their tokens in the field ``input_ids``.
    """

    unbatched = True

    @abstractmethod
    def train(self, job: Job) -> None:
        """Trains ``job.model`` in place."""

    def others(self) -> Mapping[str, nn.Module]:
        """Further trained models, by the name of the folder to save them in."""
        return {}
