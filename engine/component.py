"""The contracts: what plugins declare, and what their factories return.

Nothing here imports torch: a plugin that only lists itself stays light. Shapes: B rows, T
positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import Tensor, nn

    from engine.config import Amount, Config
    from engine.data.records import Bad, Record, Said

Schema = Literal["text", "chat", "completion", "preference", "labelled", "stepwise", "prompt"]
Kind = Literal[
    "data-source",
    "processor",
    "tokenizer",
    "model",
    "adapter",
    "strategy",
    "optimizer",
    "schedule",
    "objective",
    "reward",
    "evaluator",
    "callback",
]


@dataclass(frozen=True, slots=True)
class Component:
    """What a plugin declares: names only, so that listing imports nothing.

    ``type`` is the name in the spec, ``config`` the path of its configuration class
    (``"engine_lm.config:Llama"``), ``factory`` of its ``build(config, context)``. ``extra`` is the
    optional dependency of the plugin's distribution that it needs; ``default`` marks the one that
    stands where a spec names none.
    """

    type: str
    config: str
    factory: str
    summary: str
    extra: str | None = None
    default: bool = False


class Context(Protocol):
    """What a factory may know of the run that it builds for."""

    rank: int
    world_size: int
    device: torch.device
    seed: int
    precision: Literal["fp32", "bf16", "fp16"]
    """Of the matrix products of training: as the spec says, or what ``auto`` means here."""

    def artifact(self, stage: str) -> Artifact:
        """The finished model of a train stage, its tokenizer with it."""

    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer of the stage that is being built."""

    def component(self, kind: Kind, config: Config) -> Any:
        """Another component, built from its configuration."""

    def records(self, source: Config) -> Iterator[Record]:
        """The records of a data source, without its bad rows. Raises RunError for too many of these."""

    def allows(self, word: str) -> bool:
        """Whether the user has given this ``--allow`` word, such as ``code``."""

    def say(self, event: str, message: str, **fields: Any) -> None:
        """Tells the user something in a line, once; ``event`` and the fields go to events.jsonl."""

    def held_out(self) -> Iterator[Record]:
        """The held-out documents of this stage's data."""


class Artifact(Protocol):
    """A model and its tokenizer in a folder that opens with transformers."""

    folder: Path

    def model(self) -> nn.Module:
        """The model, by the class that its config.json names."""

    def tokenizer(self) -> Any:
        """Its Hugging Face tokenizer."""


# ------------------------------------------------------------------------------------------- data


class DataSource(Protocol):
    """Where records come from."""

    def records(self, part: int, of: int) -> Iterator[Record | Bad]:
        """Every ``of``-th record from the ``part``-th on, always in the same order.

        A row that makes no record may come as an :class:`engine.Bad`, which is counted.
        """


class Processor(Protocol):
    """Keeps, changes or drops records, one after another."""

    def process(self, record: Record) -> Record | str:
        """The record to go on with, or the name of the rule by which it is dropped."""


class TokenizerTrainer(Protocol):
    """What a tokenizer's factory returns."""

    def __call__(self, texts: Iterable[str]) -> Any:
        """A Hugging Face fast tokenizer, trained on the texts (iterable again) or loaded."""


# --------------------------------------------------------------------------------------- training


@dataclass(frozen=True, slots=True)
class Example:
    """One training example of ``length`` tokens; its fields belong to the objective.

    ``truncated``: its end did not fit, or its prompt's beginning.
    """

    length: int
    fields: Mapping[str, Any]
    truncated: bool = False


@dataclass(frozen=True, slots=True)
class Batch:
    """One micro-batch.

    ``inputs`` are the model's arguments (``input_ids`` and ``position_ids``, both ``_BT``; position
    ids restart at 0 with each packed document), ``targets`` the objective's own tensors, ``counts``
    how many terms of each kind the loss sums over, known before the backward pass, ``tokens`` the
    input tokens: 0 of a stand-in, which counts for nothing. A rank passes one through the model where
    the last rows of a budget are too few for all ranks, since the others wait for it.
    """

    inputs: Mapping[str, Tensor]
    targets: Mapping[str, Tensor]
    counts: Mapping[str, int]
    tokens: int


class Objective(Protocol):
    """What an example is and what it costs. Stateless; the loss runs inside the wrapped model.

    Subclass :class:`engine.BaseObjective`, which has all but ``encode``, ``collate`` and ``loss``.
    """

    def check(self, tokenizer: Any) -> None:
        """Before any record is read. Raises SpecError for a tokenizer that it cannot work with."""

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """The examples of at most ``length`` tokens that a record gives, or in place of one the
        reason why there is none."""

    def arrange(self, examples: list[Example], length: int) -> list[Example]:
        """All examples of a source, in their order: packed, or completed by each other."""

    def collate(self, examples: Sequence[Example]) -> Batch:
        """Examples as one micro-batch."""

    def freeze(self, model: nn.Module) -> Mapping[str, nn.Module]:
        """The frozen models that :meth:`annotate` asks, by name; ``model`` is as training finds it."""

    def annotate(self, batch: Batch, frozen: Mapping[str, nn.Module]) -> Batch:
        """Adds what frozen models say of the batch; called without gradient."""

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Scalar sums by term, one for each entry of ``batch.counts``; float32.

        What is only measured has no gradient and a name that begins with ``metric/``.
        """


class Optimizers(Protocol):
    """What an optimizer's factory returns: makes the optimizer once parameters exist."""

    def __call__(self, parameters: Sequence[tuple[str, Tensor]]) -> torch.optim.Optimizer:
        """An optimizer whose groups carry ``lr_scale``; it obeys ``grad_scale`` and ``found_inf``."""


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a stage is. All of the schedule, budget and intervals read these counters."""

    step: int
    tokens: int
    epochs: float
    seconds: float
    budget: Amount

    def reached(self, amount: Amount) -> float:
        """Progress in units of ``amount``: 1.0 when it is just reached."""
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
"""Factor on the peak learning rate at this point of the stage."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a strategy needs to make a model trainable.

    ``activation_checkpointing`` recomputes ``full`` layers (True means the same), or ``selective``
    all but their products with weights; a strategy that cannot tell them apart takes the former.
    """

    build: Callable[[], nn.Module]
    optimizer: Optimizers
    objective: Objective
    frozen: Mapping[str, nn.Module] = field(default_factory=dict)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    compile: bool = False
    activation_checkpointing: Literal["selective", "full"] | bool = False
    offload_activations: bool = False
    ema: float | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimizer step did. Tensors stay on their device until somebody reads them.

    ``companions``: gradient norms of the models that learn beside the stage's own, by name.
    """

    grad_norm: Tensor
    skipped: Tensor
    companions: Mapping[str, Tensor] = field(default_factory=dict)


class Strategy(Protocol):
    """All that differs between one process and many, forward and backward included.

    A strategy may have ``min_micro_batches``, into which the loop then parts a step where rows allow:
    a pipeline needs as many as it has stages to keep them busy.
    """

    data_rank: int
    data_size: int

    def prepare(self, setup: Setup) -> None:
        """Builds, places and wraps model and optimizer."""

    def all_sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """Sums over the data ranks, the same on every rank; all pass the same keys.

        Ranks that share samples count once, by their mean: a signal to any of them is seen by all.
        """

    def forward_backward(
        self, micro_batches: Sequence[Batch], counts: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """Adds up the gradient of Σ_terms sum/count; returns this rank's sums by term, detached.

        Ranks that share samples return the same sums. Every rank gets as many micro-batches; those
        without tokens add nothing.
        """

    def gradient_norm(self) -> Tensor:
        """The norm of the gradient that the next step takes, the same on every rank; collective.

        Asked only where several models learn: they skip a step together.
        """

    def step(self, lr: float, max_norm: float | None, spike_limit: float) -> Step:
        """Clips, and updates unless the norm is not finite or above ``spike_limit``."""

    def inference(self, *, averaged: bool = True) -> AbstractContextManager[nn.Module]:
        """The whole model for generation and scoring: its EMA where there is one, or, not ``averaged``,
        the weights that learn.

        Entered by all ranks; inside, any rank may call the model alone.
        """

    def state(self) -> dict[str, Any]:
        """Nested dict of tensors (and plain values) to save, and to load into in place.

        One key is one tensor: what differs between ranks is a DTensor, or has the rank in its key.
        """

    def load(self, state: dict[str, Any]) -> None:
        """Takes over what was loaded into ``state()``."""

    def export(self) -> Iterator[tuple[str, Tensor]]:
        """The final weights by the names that transformers gives them; collective."""


# ------------------------------------------------------------------------------ rewards, adapters


class Reward(Protocol):
    """Scores answers; each named value has shape ``_N`` for N prompts."""

    def score(
        self,
        prompts: Sequence[Said],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> dict[str, Tensor]:
        """Named values by answer.

        A prompt is its text; one of several turns is their messages. ``rows`` are the further columns
        of each prompt's record by name, such as its ``answer``, ``tests`` or ``id``.
        """


class Adapter(Protocol):
    """Adds trainable parts to a model, and folds them in for export."""

    def attach(self, model: nn.Module) -> nn.Module:
        """The model with the adapter in it; everything else frozen."""

    def merge(self, model: nn.Module) -> nn.Module:
        """A plain model again, the adapter's weights folded in."""


# -------------------------------------------------------------------------------------- callbacks


@dataclass(frozen=True, slots=True)
class Stop:
    """Ends the stage here, as done."""

    reason: str


@dataclass(frozen=True, slots=True)
class RollBack:
    """Goes back to the last checkpoint and leaves out the data of the last ``steps`` steps."""

    reason: str
    steps: int


class Callback(Protocol):
    """Watches and steers a training stage; its state is kept in the checkpoint.

    Subclass :class:`engine.BaseCallback` and override what you need. ``spike_limit`` is the gradient
    norm above which a step is skipped; ``spike_limits`` those of models that learn beside, by name.
    """

    spike_limit: float
    spike_limits: Mapping[str, float]

    def stage_started(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """Before the first step, on rank 0 and all others alike."""

    def step_finished(self, event: Mapping[str, Any]) -> Stop | RollBack | None:
        """After every step, with the step's event; the same on all ranks."""

    def scored(self, event: Mapping[str, Any]) -> Stop | RollBack | None:
        """After every score."""

    def stage_finished(self) -> None:
        """When the stage ends, however it ends."""

    def state(self) -> dict[str, Any]:
        """JSON-able state."""

    def load(self, state: dict[str, Any]) -> None:
        """Takes the state back."""


class BaseCallback:
    """A callback that does nothing: override what you need."""

    spike_limit = float("inf")
    spike_limits: Mapping[str, float] = MappingProxyType({})

    def stage_started(self, stage: str, folder: Path, config: Mapping[str, Any]) -> None:
        """See :class:`Callback`."""

    def step_finished(self, event: Mapping[str, Any]) -> Stop | RollBack | None:
        """See :class:`Callback`."""
        return None

    def scored(self, event: Mapping[str, Any]) -> Stop | RollBack | None:
        """See :class:`Callback`."""
        return None

    def stage_finished(self) -> None:
        """See :class:`Callback`."""

    def state(self) -> dict[str, Any]:
        """See :class:`Callback`."""
        return {}

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`Callback`."""
