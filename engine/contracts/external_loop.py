"""Training by a library's own loop."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from engine.contracts.amounts import Amount
from engine.contracts.batch import Example, Examples
from engine.contracts.optimizer import Optimizers, Progress, Schedule

if TYPE_CHECKING:
    from torch import nn


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
