"""Training examples, micro-batches, losses, and penalties, which are terms beside a loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from engine.contracts.records import Record

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
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
class Window:
    """T consecutive tokens of a prepared corpus, of one or several documents.

    All fields are int64 arrays ``_T``. ``labels``: the token after each, or −100
    (``engine.modeling.IGNORE``) before a document whose first token cannot be predicted.
    ``position_ids``: places from the beginning of the document, or of the window in which it goes on.
    """

    input_ids: NDArray[np.int64]
    labels: NDArray[np.int64]
    position_ids: NDArray[np.int64]

    def example(self) -> Example:
        """An example of T tokens, with the three arrays as its fields."""
        fields = {"input_ids": self.input_ids, "labels": self.labels}
        return Example(len(self.input_ids), {**fields, "position_ids": self.position_ids})


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
    """Encodes records, and windows of prepared corpora, as training examples."""

    unbatched: ClassVar[bool] = False
    """True if the examples are never collated, since training reads something else; each has its tokens
    in the field ``input_ids``."""

    def check(self, tokenizer: Any) -> None:  # noqa: B027 - most have nothing to check
        """Called before any data is read. Raises SpecError for an unsuitable tokenizer."""

    @abstractmethod
    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """Encodes a record as examples of at most ``length`` tokens each; a string in place of an
        example is the reason for dropping it."""

    def arrange(self, examples: list[Example], length: int) -> list[Example]:
        """Arranges all examples of a source: packs them into rows of ``length`` tokens, or adds to each
        what it needs from the others. By default returns them unchanged."""
        return examples

    def encode_window(self, window: Window, tokenizer: Any) -> Example:
        """Encodes a window of a prepared corpus, in place of :meth:`encode` and :meth:`arrange`, as an
        example of at most as many tokens; by default :meth:`Window.example`.

        Called whenever a step reads the window: the result may depend on the arguments only. Override
        it if :meth:`collate` reads other fields; if they cannot be made of tokens,
        :meth:`ObjectiveConfig.prepared_fault` says so.
        """
        return window.example()


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


@dataclass(frozen=True, slots=True)
class ForwardPass:
    """What the forward pass of a micro-batch gave, for a penalty.

    ``outputs``: of the modules that :meth:`Penalty.start` named, as they returned them; ``hidden``: the
    last hidden states ``_BTD``; ``head``: the model's output head; ``real``: ``_BT``, False where there
    is padding.
    """

    outputs: Mapping[str, Any]
    hidden: Tensor
    head: nn.Module
    batch: Batch
    real: Tensor


class Penalty:
    """A term of the loss beside any objective. Override what belongs to the ``inputs`` of the config.

    A step's loss is the objective's + weight · Σ ``output_loss`` / input tokens of the global batch
    + weight · Σ ``parameter_loss`` over the trained parameters. The engine calls ``start`` and ``keep``
    when the stage starts or resumes; in a step ``output_loss`` for each micro-batch, then
    ``parameter_loss`` for each trained parameter, ``measured`` and ``update``. It does so on every
    rank, so that a state that only ``update`` changes is the same on all of them.
    """

    def start(self, model: nn.Module) -> Sequence[str]:
        """Called with the whole model as it is at the start of the stage. Returns the names of the
        modules whose outputs ``output_loss`` reads; each runs once in a forward pass."""
        return ()

    def output_loss(self, forward: ForwardPass) -> Tensor | None:
        """Scalar float32: the term's sum over the real tokens of a micro-batch."""
        return None

    def keep(self, name: str, weight: Tensor) -> Mapping[str, Tensor]:
        """Tensors of the shape of a trained parameter that ``parameter_loss`` needs beside it;
        ``weight``: the parameter at the start of the stage, not to be changed."""
        return {}

    def parameter_loss(
        self, name: str, weight: Tensor, kept: Mapping[str, Tensor]
    ) -> Tensor | None:
        """Scalar float32: the term of one parameter, a sum over its elements, or None. Ranks may each
        have a part of the parameter, and the same part of what was kept."""
        return None

    def measured(self) -> Mapping[str, float]:
        """This rank's sums since the last call, by name; with the same names on every rank."""
        return {}

    def update(self, sums: Mapping[str, float]) -> None:
        """Called after each step that was not skipped; ``sums``: what was measured, over all ranks."""

    def state(self) -> dict[str, Any]:
        """State as JSON-serialisable data, kept in checkpoints."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """Restores what :meth:`state` returned."""
