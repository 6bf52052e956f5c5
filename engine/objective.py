"""What an objective may be beyond encode, collate and loss: bases to subclass.

A :class:`BaseObjective` learns from records, a :class:`BaseOnlineObjective` from episodes that the
model itself makes of prompts, a :class:`BaseTrainer` brings a loop of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

from engine.component import Batch, Example, Objective

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.component import Optimizers, Progress, Schedule
    from engine.config import Amount
    from engine.language_model import LanguageModel


class BaseObjective:
    """An objective that needs nothing more: override what yours does.

    ``observes``: a step's loss depends on something of the whole global batch, which
    :meth:`observe` finds before the backward pass.
    """

    observes: ClassVar[bool] = False

    def check(self, tokenizer: Any) -> None:
        """Before any record is read. Raises SpecError for a tokenizer that it cannot work with."""

    def arrange(self, examples: list[Example], length: int) -> list[Example]:
        """All examples of a source, in their order: packed into rows of ``length``, or completed by
        what each needs of the others."""
        return examples

    def attach(self, model: nn.Module) -> None:
        """Hangs hooks on the model that will learn, which is whole and not yet wrapped."""

    def freeze(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The frozen models that :meth:`annotate` asks, by name; ``model`` is as training finds it."""
        return {}

    def annotate(self, batch: Batch, frozen: Mapping[str, nn.Module]) -> Batch:
        """Adds what frozen models say of the batch; called without gradient."""
        return batch

    def observe(self, batch: Batch, model: nn.Module) -> dict[str, tuple[float, float]]:
        """Sums and counts over a micro-batch, by the whole model as it is now, without gradient."""
        raise NotImplementedError

    def settle(self, batch: Batch, observed: Mapping[str, float]) -> Batch:
        """The batch with the means over the global batch of what was observed."""
        raise NotImplementedError

    def keep(self, lm: LanguageModel, examples: Sequence[Example]) -> dict[str, Any]:
        """What config.json keeps of the finished model, which has seen these examples."""
        return {}


@dataclass(frozen=True, slots=True)
class Companion:
    """A second model that learns beside the stage's own, from the same batches by its own loss."""

    build: Callable[[], nn.Module]
    objective: Objective


@dataclass(frozen=True, slots=True)
class Round:
    """What a round of episodes is learned from.

    ``figures`` join the events of the steps that use it; ``table`` has a row for a person to read of
    every episode, texts and numbers under the names of its columns.
    """

    episodes: Sequence[Example]
    figures: Mapping[str, float] = field(default_factory=dict)
    table: Sequence[Mapping[str, Any]] = ()


class BaseOnlineObjective(BaseObjective):
    """Learns from what the model itself answers to prompts, round by round.

    In a round every prompt of the global batch is answered, and the episodes are gone through
    ``passes`` times, in ``mini_batches`` optimizer steps each. A prompt is an example with its tokens
    as ``input_ids``. An episode is one whose fields are numpy arrays ``_N``, as they are kept in
    checkpoints.
    """

    passes: int
    mini_batches: int
    episodes_per_prompt: int

    def companions(self, model: nn.Module) -> Mapping[str, Companion]:
        """Models that learn as well, by name; ``model`` is as training finds it."""
        return {}

    def collect(
        self, number: int, prompts: Mapping[int, Example], models: Mapping[str, LanguageModel]
    ) -> list[Any]:
        """This rank's episodes of round ``number``, prompt by prompt; called without gradient.

        Plain data, of whatever class :meth:`learn` takes: it goes to all ranks.

        ``prompts`` are known by their place in the round, the same on any number of ranks;
        ``models``: ``model`` itself, its companions, and the frozen ones.
        """
        raise NotImplementedError

    def learn(self, episodes: Sequence[Any]) -> Round:
        """What all ranks' episodes teach: advantages, and what follows for coefficients.

        Called on every rank with the same, and moves :meth:`state` alike on all.
        """
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """JSON-able: coefficients, multipliers."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Takes the state back."""


@dataclass(frozen=True, slots=True)
class Job:
    """A train stage for a loop that is not the engine's.

    ``folder`` is for what it writes meanwhile; ``log`` takes the figures of each of its steps, and how
    far it then is.
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


class BaseTrainer(BaseObjective):
    """An objective by a library whose loop cannot be taken apart. It cannot be resumed.

    Its examples have their tokens as ``input_ids``.
    """

    def train(self, job: Job) -> None:
        """Trains ``job.model`` in place."""
        raise NotImplementedError

    def others(self) -> Mapping[str, nn.Module]:
        """Further models that it trained, by the name of their folder."""
        return {}

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Nobody asks: the library makes its own batches."""
        raise NotImplementedError

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Nobody asks."""
        raise NotImplementedError
