"""Training examples, micro-batches and losses."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from engine.contracts.records import Record

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass(frozen=True, slots=True)
class Example:
    """One training example of ``length`` tokens; the objective defines its fields.

    ``truncated``: its end, or the beginning of its prompt, was cut off to fit.
    """

    length: int
    fields: Mapping[str, Any]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch.

    ``inputs``: the model's arguments (``input_ids`` and ``position_ids``, both ``_BT``; position ids
    restart at 0 with each packed document). ``targets``: tensors of the objective. ``counts``: number
    of terms that each loss sums over, known before the backward pass. ``tokens``: number of input
    tokens; 0 marks a stand-in, which adds nothing: a rank without rows in the last step passes one
    through the model, since the other ranks wait for it in collectives.
    """

    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    counts: Mapping[str, int]
    tokens: int


class Examples(ABC):
    """Encodes records as training examples.

    ``unbatched``: the examples are never collated, since training reads something else; each has its
    tokens in the field ``input_ids``.
    """

    unbatched: ClassVar[bool] = False

    def check(self, tokenizer: Any) -> None:  # noqa: B027 - most have nothing to check
        """Called before any record is read. Raises SpecError for an unsuitable tokenizer."""

    @abstractmethod
    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """Encodes a record as examples of at most ``length`` tokens each; a string in place of an
        example is the reason for dropping it."""

    def arrange(self, examples: list[Example], length: int) -> list[Example]:
        """Arranges all examples of a source: packs them into rows of ``length`` tokens, or adds to each
        what it needs from the others. By default returns them unchanged."""
        return examples


class Loss(ABC):
    """Loss of a model's hidden states; sufficient for a second model trained beside the stage's own."""

    def annotate(self, batch: Batch, frozen: Mapping[str, nn.Module]) -> Batch:
        """Adds outputs of the frozen models to the batch; called without gradient."""
        return batch

    @abstractmethod
    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalar float32 sums by term, one for each entry of ``batch.counts``.

        ``hidden_BTD``: last hidden states; ``head``: the model's output head. Terms that are only
        metrics have no gradient and a name that begins with ``metric/``.
        """
