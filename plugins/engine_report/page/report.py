"""Reads runs and writes their page or their figures (``engine report``)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.markup import escape

from engine import RunError, SpecError, Terminal, read_run, write_cleaned, write_durably
from engine_report.page.figures import RunFigures, figures_of
from engine_report.page.matrix import size

FILE = "report.html"
_HEAD = 8192
"""Bytes of a page within which its title stands."""


def write_report(folders: Sequence[Path], to: Path | None, as_json: bool) -> None:
    """Writes the page of these runs, or prints their figures as JSON; both if ``to`` is given.

    A run that is named twice is taken once. Raises SpecError for what is not a run's folder and for a
    file that is no earlier page, RunError for what cannot be read or written.
    """
    folders = _once(folders)
    file = to or (folders[0] / FILE if len(folders) == 1 else Path(FILE))
    if to is not None or not as_json:
        _check_replaceable(file, folders)
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
    text = page(histories, runs)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        write_durably(file, text)
    except OSError as error:
        raise RunError(f"{file}: cannot be written: {error.strerror or error}") from error
    if not as_json:
        _tell(file, runs, len(text.encode()))


def _once(folders: Sequence[Path]) -> list[Path]:
    """The folders without those that are the same as an earlier one, which are told."""
    found: dict[Path, Path] = {}
    for folder in folders:
        if found.setdefault(folder.resolve(), folder) is not folder:
            write_cleaned(f"{folder}: is given more than once, and taken once\n", error=True)
    return list(found.values())


def _check_replaceable(file: Path, folders: Sequence[Path]) -> None:
    """Raises SpecError if writing a page there would replace or pretend to be another file."""
    hint = "name a new .html file with --to"
    if not _is_free(file):
        raise SpecError(f"{file}: is no page of an earlier report, and is not replaced", hint=hint)
    inside = any(file.resolve().is_relative_to(folder.resolve()) for folder in folders)
    if inside and file.suffix != ".html":
        raise SpecError(f"{file}: lies within a run, but is no .html file", hint=hint)


def _is_free(file: Path) -> bool:
    """Whether the file is not there, or is a page that this command has written."""
    try:
        if not file.is_file():
            return not file.exists()
        with file.open("rb") as opened:
            head = opened.read(_HEAD)
    except OSError as error:
        raise RunError(f"{file}: cannot be read: {error.strerror or error}") from error
    return head.lstrip().startswith(b"<!doctype html>") and " – report</title>".encode() in head


def _tell(file: Path, runs: Sequence[RunFigures], length: int) -> None:
    console = Terminal(soft_wrap=True)
    steps = sum(int(s.reached["steps"] or 0) for run in runs for s in run.stages.values())
    what = f"{len(runs)} runs" if len(runs) > 1 else runs[0].label
    console.print(f"{escape(str(file))}: {escape(what)}, {steps:,} steps, {size(length)}")
    damaged = sum(run.damaged for run in runs)
    if damaged:
        console.print(f"  {damaged:,} damaged lines of events.jsonl are left out")
