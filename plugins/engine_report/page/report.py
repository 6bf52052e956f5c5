"""Reads runs and writes their page or their figures (``engine report``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from engine import RunError, Terminal, read_run, write_durably
from engine_report.page.figures import RunFigures, figures_of
from engine_report.page.matrix import size

FILE = "report.html"


def write_report(folders: Sequence[Path], to: Path | None, as_json: bool) -> None:
    """Writes the page of these runs, or prints their figures as JSON; both if ``to`` is given.

    Raises SpecError for what is not a run's folder, RunError for what cannot be read or written.
    """
    histories = [read_run(folder) for folder in folders]
    runs = figures_of(histories)
    if as_json:
        print(json.dumps([asdict(run) for run in runs], indent=1))  # noqa: T201
    if as_json and to is None:
        return
    try:
        from engine_report.page.page import page
    except ImportError as error:
        hint = "pip install 'training-engine[report]'"
        raise RunError(f"a page needs {error.name}", hint=hint) from error
    file = to or (folders[0] / FILE if len(folders) == 1 else Path(FILE))
    text = page(histories, runs)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, text)
    except OSError as error:
        raise RunError(f"{file}: cannot be written: {error.strerror or error}") from error
    if not as_json:
        _tell(file, runs, len(text.encode()))


def _tell(file: Path, runs: Sequence[RunFigures], length: int) -> None:
    console = Terminal(soft_wrap=True)
    steps = sum(int(s.reached["steps"] or 0) for run in runs for s in run.stages.values())
    what = f"{len(runs)} runs" if len(runs) > 1 else runs[0].label
    console.print(f"{escape(str(file))}: {escape(what)}, {steps:,} steps, {size(length)}")
    damaged = sum(run.damaged for run in runs)
    if damaged:
        console.print(f"  {damaged:,} damaged lines of events.jsonl are left out")
