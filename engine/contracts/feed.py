"""Feeds: the source of each training step's micro-batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from engine.contracts.amounts import Amount
from engine.contracts.batch import Batch, Example
from engine.contracts.context import Context
from engine.contracts.optimizer import Progress
from engine.contracts.strategy import Strategy

if TYPE_CHECKING:
    from torch import nn


_WINDOWS_KEPT = 256
"""Last steps whose data a roll-back can leave out."""


@dataclass
class State:
    """Progress of training, saved with every checkpoint.

    ``cursor``: global index of the next sample; ``samples``: number of samples used; ``seconds``: time
    spent in steps; ``skipped``: consecutive skipped steps; ``ended``: why a callback ended the stage.
    ``excluded``: half-open ranges of samples left out; ``windows``: the last steps, each as (step,
    first sample, cursor after it).
    """

    step: int = 0
    tokens: int = 0
    cursor: int = 0
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0
    ended: str | None = None
    excluded: list[tuple[int, int]] = field(default_factory=list)
    windows: list[tuple[int, int, int]] = field(default_factory=list)

    def stepped(self, taken: Taken, tokens: int, seconds: float, *, skipped: bool) -> None:
        """Counts a step of so many tokens, over all ranks."""
        self.step += 1
        self.tokens += tokens
        self.samples += taken.samples
        self.seconds += seconds
        self.skipped = self.skipped + 1 if skipped else 0
        window = (self.step, taken.start, taken.cursor)
        self.windows = [*self.windows[1 - _WINDOWS_KEPT :], window]
        self.cursor = taken.cursor


@dataclass(frozen=True, slots=True)
class Taken:
    """One step's micro-batches on this rank.

    ``start``: cursor before the step's data; ``cursor``: cursor after it; ``samples``: samples used up,
    over all ranks; ``figures``: metrics added to the step's event.
    """

    micro_batches: list[Batch]
    start: int
    cursor: int
    samples: int
    figures: Mapping[str, float] = field(default_factory=dict)


class Feed(ABC):
    """Supplies the micro-batches of every step. Its state is part of a checkpoint.

    Every rank calls ``load`` if the stage is resumed, ``take`` for each step, and ``state`` for each
    checkpoint.

    A signal may interrupt between :meth:`take` and the step: the next call must return the same.
    """

    @abstractmethod
    def take(self, state: State, progress: Progress, stopping: Callable[[], bool]) -> Taken | None:
        """Returns the next step's micro-batches; None if ``stopping()`` says that a signal asks some
        rank to stop and producing them would take long."""

    def state(self) -> tuple[dict[str, Any], bytes]:
        """State as JSON-serialisable data, and bytes for what is too large for that."""
        return {}, b""

    def load(self, state: dict[str, Any], blob: bytes) -> None:  # noqa: B027 - most have no state
        """Restores what :meth:`state` returned."""


class Samples(Protocol):
    """The examples of a stage in training order, addressed by global index."""

    def take(
        self,
        cursor: int,
        count: int,
        excluded: Sequence[tuple[int, int]],
        rank: int,
        ranks: int,
    ) -> tuple[list[Example], int]:
        """This rank's part of the next ``count`` examples from ``cursor`` on, skipping the excluded
        ranges, and the cursor after them."""

    def left(self, cursor: int, excluded: Sequence[tuple[int, int]], end: int) -> int:
        """Number of examples from ``cursor`` to ``end`` that are not excluded."""

    def end(self, budget: Amount) -> int:
        """The index at which a budget in epochs ends."""


class StepPlan(Protocol):
    """Batch sizes and budget of a train stage."""

    @property
    def stage(self) -> str:
        """Name of the stage."""

    @property
    def seed(self) -> int:
        """Seed of everything random."""

    @property
    def sequence(self) -> int:
        """Tokens in a row."""

    @property
    def micro_rows(self) -> int:
        """Rows in one forward pass."""

    @property
    def overhead(self) -> float:
        """Fixed cost of a micro-batch, as the number of tokens that take as long."""

    @property
    def budget(self) -> Amount:
        """How long to train."""

    @property
    def first_tokens(self) -> int:
        """Tokens in the first global batch."""

    def batch_tokens(self, progress: Progress) -> int:
        """Tokens in the global batch at this point of the stage."""


@dataclass(frozen=True, slots=True)
class FeedSetup:
    """Arguments to build a feed from.

    ``frozen``: models used for inference only, by name; ``folder``: for files that a person may read;
    ``progress``: shows the progress of a long operation: (label, done, total, detail).
    """

    context: Context
    data: Samples
    strategy: Strategy
    plan: StepPlan
    frozen: Mapping[str, nn.Module]
    folder: Path
    progress: Callable[[str, float, float, str], None]

    def in_budget(self, state: State, rows: int) -> int:
        """``rows``, or fewer if a budget in epochs has fewer left."""
        budget = self.plan.budget
        if budget.unit != "epochs":
            return rows
        return min(rows, self.data.left(state.cursor, state.excluded, self.data.end(budget)))


def even_cuts(rows: int, size: int) -> list[slice]:
    """Slices of ``size`` rows; the last may reach beyond ``rows``."""
    return [slice(start, start + size) for start in range(0, rows, size)]


def micro_batches(
    examples: Sequence[Example],
    cuts: Sequence[slice],
    collate: Callable[[Sequence[Example]], Batch],
    stand_in: Callable[[], Example],
) -> list[Batch]:
    """Collates a step's examples on this rank into one micro-batch per cut.

    ``cuts`` come from the rank with the most examples, so all ranks get equally many micro-batches. A
    cut without examples here becomes the stand-in with 0 tokens, which adds nothing.
    """
    batches = []
    for cut in cuts:
        own = examples[cut]
        batch = collate(own or [stand_in()])
        batches.append(batch if own else replace(batch, tokens=0))
    return batches
