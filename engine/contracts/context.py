"""What plugins may know about a run: before it starts, and while they build components for it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from engine.contracts.component import Kind, Precision
from engine.contracts.config import Config
from engine.contracts.language_model import LanguageModel
from engine.contracts.records import Record
from engine.contracts.scoring import BenchmarkTexts
from engine.contracts.spec import Spec

if TYPE_CHECKING:
    from pathlib import Path

    import torch
    from torch import nn

T = TypeVar("T")


class Situation(Protocol):
    """The spec of a run and where it is to run."""

    @property
    def spec(self) -> Spec:
        """The spec to run."""

    @property
    def processes(self) -> int:
        """Total number of processes."""

    @property
    def local_processes(self) -> int:
        """Number of processes on this machine."""

    @property
    def stages(self) -> Sequence[str]:
        """Stages that are still to be run, in order."""

    def configs(self, kind: Kind) -> Mapping[str, type[Config]]:
        """Configuration classes, by type, of the components that this run may use and whose
        requirements are installed."""


@dataclass(frozen=True, slots=True)
class Problem:
    """A reason why a run would fail.

    ``what``: the problem and where it is, in one line; ``hint``: how to fix it; ``waiver``: the
    plugin's ``--allow`` word (see the hook ``engine_permissions``) that starts the run all the same.
    """

    what: str
    hint: str
    waiver: str | None = None


class Context(Protocol):
    """What a factory may know about the run that it builds a component for."""

    @property
    def rank(self) -> int:
        """Rank of this process."""

    @property
    def world_size(self) -> int:
        """Number of processes."""

    @property
    def device(self) -> torch.device:
        """Device of this process."""

    @property
    def seed(self) -> int:
        """Seed of everything random."""

    @property
    def stage(self) -> str:
        """Name of the stage; empty outside a run."""

    @property
    def precision(self) -> Precision:
        """Precision of training's matrix products: the spec's, with ``auto`` resolved."""

    def artifact(self, stage: str) -> Artifact:
        """The trained model of a finished train stage, with its tokenizer."""

    def tokenizer(self) -> Any:
        """The Hugging Face tokenizer of the stage that is being built."""

    def component(self, kind: Kind, config: Config) -> Any:
        """Another component, built from its configuration."""

    def configs(self, kind: Kind) -> Mapping[str, type[Config]]:
        """Configuration classes, by type, of the components that this run may use and whose
        requirements are installed."""

    def situation(self) -> Situation | None:
        """The run that the component is built for; None outside a run."""

    def first(self, find: Callable[[], T]) -> T:
        """Calls ``find`` on rank 0 only and returns its result on every rank; collective."""

    def gather(self, value: T) -> list[T]:
        """The values of all ranks, in rank order, on every rank; collective."""

    def language_model(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        context: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> LanguageModel:
        """Wraps a model for inference by the stage's inference component; see
        :class:`engine.Inference`."""

    def records(self, source: Config) -> Iterator[Record]:
        """The records of a data source without bad rows. Raises RunError if too many rows are bad."""

    def allows(self, word: str) -> bool:
        """Whether the user gave this ``--allow`` word, such as ``code``."""

    def say(self, event: str, message: str, **fields: Any) -> None:
        """Logs an event with a one-line message for the user, once per stage and message; ``fields`` go
        to events.jsonl, too. With an empty ``message`` only the fields are logged."""

    def held_out(self) -> Iterator[Record]:
        """The held-out documents of this stage's data."""

    def benchmark_texts(self) -> Sequence[BenchmarkTexts]:
        """The texts of the items of all evaluators in the spec, except those that score held-out
        records; for a processor or step whose config says ``searches_benchmarks``."""


class Artifact(Protocol):
    """A model and its tokenizer in a folder that transformers can open."""

    @property
    def folder(self) -> Path:
        """Its folder."""

    def model(self) -> nn.Module:
        """The model, of the class named in its config.json."""

    def tokenizer(self) -> Any:
        """Its Hugging Face tokenizer."""
