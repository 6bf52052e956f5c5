"""How calls are carried out: in this process, or by the stage's executor."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeVar

from engine.contracts.data import Executor, Lost

T = TypeVar("T")
R = TypeVar("R")


class InProcess(Executor):
    """Calls in this process, one after the other."""

    isolated = False

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R | Lost]]:
        """See :class:`engine.Executor`."""
        for number, task in enumerate(tasks):
            yield number, function(task)


@dataclass(frozen=True, slots=True)
class Means:
    """What a stage's work is done with: its executor, and the seconds that a document may take."""

    executor: Executor = field(default_factory=InProcess)
    seconds: float = 60.0

    @property
    def limit(self) -> float | None:
        """Seconds after which a process may be ended; None where it may not be."""
        return self.seconds if self.executor.isolated else None

    def here(self) -> Means:
        """The means for what cannot be sent to another process."""
        return Means(seconds=self.seconds)
