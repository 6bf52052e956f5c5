"""What an objective must offer to train on rollouts of its own model, collected in rounds."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import nn

from engine import (
    Example,
    LanguageModel,
    Loss,
    Objective,
)


@dataclass(frozen=True, slots=True)
class Companion:
    """A second model, such as a critic, trained on the same batches by its own loss."""

    model: nn.Module
    loss: Loss


@dataclass(frozen=True, slots=True)
class Round:
    """One collection of rollouts: the ``episodes`` to train on.

    ``figures`` are logged with each optimizer step of the round. ``table`` is for people to read: a row
    of texts and numbers for each episode, by column name.
    """

    episodes: Sequence[Example]
    figures: Mapping[str, float] = field(default_factory=dict)
    table: Sequence[Mapping[str, Any]] = ()


class RolloutContract(Objective):
    """What :class:`RolloutFeed` calls of an objective; subclass :class:`RolloutObjective` instead.

    A round answers every prompt of the global batch, ``episodes_per_prompt`` times, and trains on the
    episodes for ``passes`` optimization epochs of ``mini_batches`` optimizer steps each. A prompt is an
    example whose tokens are ``input_ids``. The fields of a :class:`Round`'s episodes are
    one-dimensional numpy arrays ``_N``, as checkpoints store them.
    """

    unbatched = True
    passes: int
    mini_batches: int
    episodes_per_prompt: int

    def companions(self, model: nn.Module) -> Mapping[str, Companion]:
        """Further models to train, by name; ``model`` is the stage's own, before its first step."""
        return {}

    @abstractmethod
    def collect(
        self, number: int, prompts: Mapping[int, Example], models: Mapping[str, LanguageModel]
    ) -> list[Any]:
        """Samples this rank's episodes of round ``number`` (from 1), all of one prompt in a row.

        Returns picklable data for :meth:`learn`, which every rank receives; called without gradient.

        ``prompts`` are keyed by their place in the round, which does not depend on the number of ranks.
        ``models`` holds the policy as ``model``, the companions, and the frozen models, by name.
        """

    @abstractmethod
    def learn(self, episodes: Sequence[Any]) -> Round:
        """Turns the episodes of all ranks into examples with advantages, and updates coefficients.

        Every rank calls it with the same episodes and must end in the same :meth:`state`.
        """

    def state(self) -> dict[str, Any]:
        """JSON-able state that checkpoints keep, such as coefficients."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
