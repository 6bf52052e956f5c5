"""The structured log: one JSON object per line in events.jsonl, and its display to the user.

Only rank 0 writes; the other ranks keep their warnings until rank 0 collects them.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import IO, Any, Protocol, cast

import structlog
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from engine.contracts.scoring import score_text
from engine.errors import RunError
from engine.files.regular import opened_at_end
from engine.terminal.console import Terminal
from engine.terminal.output import StandardError

_UNBROKEN = ("reads", "stage_skipped")
"""Events whose line a console must not break: paths and commands are copied from it."""


class Display(Protocol):
    """Shows events to a person or a machine."""

    def event(self, record: Mapping[str, Any]) -> None:
        """Shows one event."""

    def progress(self, what: str, done: float, total: float, note: str = "") -> None:
        """Shows progress; at ``total`` the progress bar disappears."""

    def close(self) -> None:
        """Called when the run ends."""


class EventLog:
    """Writes events to a file and a display."""

    def __init__(self, path: Path | None, display: Display) -> None:
        self.display = display
        self._path = path
        self._file: IO[bytes] | None = _reopened(path) if path else None
        self._pending: list[dict[str, Any]] = []
        self._log = structlog.wrap_logger(
            self,
            processors=[structlog.processors.JSONRenderer(serializer=_dumps)],
            wrapper_class=structlog.BoundLogger,
        )

    def emit(self, event: str, **fields: Any) -> dict[str, Any]:
        """Logs an event with its time in seconds since the epoch; returns the record."""
        record = {"event": event, "time": round(time.time(), 3), **fields}
        if self._file is None:
            if event == "warning":  # rank 0 logs all other events itself
                self._pending.append(record)
        else:
            self._log.msg(**record)
            self.display.event(record)
        return record

    def warn(self, message: str, **fields: Any) -> None:
        """Logs a warning."""
        self.emit("warning", message=message, **fields)

    def pending(self) -> list[dict[str, Any]]:
        """Returns and clears the records that this rank could not write itself."""
        taken, self._pending = self._pending, []
        return taken

    def adopt(self, records: Iterable[Mapping[str, Any]], rank: int) -> None:
        """Writes another rank's records."""
        for record in records:
            fields = {k: v for k, v in record.items() if k != "event"}
            self._log.msg(event=record["event"], rank=rank, **fields)
            self.display.event({**record, "rank": rank})

    def msg(self, line: str) -> None:
        """Writes one line; called by structlog. Raises RunError if it cannot be written."""
        assert self._file is not None
        rest = memoryview(f"{line}\n".encode())
        try:
            while rest:  # a full disk may accept only part of it
                rest = rest[self._file.write(rest) :]
        except OSError as error:
            raise RunError(
                f"{self._path}: cannot be written: {error.strerror}",
                hint="free some space or repair the folder, run again: everything saved is intact",
            ) from error

    def close(self) -> None:
        """Closes file and display."""
        self.display.close()
        if self._file:
            self._file.close()


class JsonDisplay:
    """Prints events to stdout, one JSON object per line."""

    def event(self, record: Mapping[str, Any]) -> None:
        """See :class:`Display`. Raises RunError if stdout cannot be written."""
        try:
            print(_dumps(record), flush=True)  # noqa: T201 - a command's output
        except OSError as error:
            raise RunError(
                f"standard output: cannot be written: {error.strerror}",
                hint="run again: everything saved is intact",
            ) from error

    def progress(self, what: str, done: float, total: float, note: str = "") -> None:
        """See :class:`Display`; prints nothing, since events suffice."""

    def close(self) -> None:
        """See :class:`Display`."""


class SilentDisplay:
    """Shows nothing; for ranks other than 0 and for tests."""

    def event(self, record: Mapping[str, Any]) -> None:
        """See :class:`Display`."""

    def progress(self, what: str, done: float, total: float, note: str = "") -> None:
        """See :class:`Display`."""

    def close(self) -> None:
        """See :class:`Display`."""


class _Note(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(str(task.fields.get("note", "")))


class RichDisplay:
    """Progress bars and short lines for a person. Fits 80 columns."""

    def __init__(self, console: Console | None = None) -> None:
        self.console = console or Terminal(file=cast("IO[str]", StandardError()))
        self._bars: Progress | None = None
        self._tasks: dict[str, TaskID] = {}
        self._drawn = 0.0

    def event(self, record: Mapping[str, Any]) -> None:
        """See :class:`Display`."""
        line = event_line(record)
        if line:
            self.console.print(line, soft_wrap=record["event"] in _UNBROKEN)

    def progress(self, what: str, done: float, total: float, note: str = "") -> None:
        """See :class:`Display`."""
        finished = done >= total
        now = time.monotonic()
        if not finished and now - self._drawn < 0.1 and what in self._tasks:
            return
        self._drawn = now
        if self._bars is None:
            self._bars = Progress(
                TextColumn("{task.description:<12}", markup=False),
                BarColumn(bar_width=16),
                TextColumn("{task.percentage:>3.0f}%"),
                TimeRemainingColumn(compact=True),
                _Note(),
                console=self.console,
                transient=True,
                disable=not self.console.is_terminal,
            )
            self._bars.start()
        if what not in self._tasks:
            self._tasks[what] = self._bars.add_task(what, total=total, note=note)
        self._bars.update(self._tasks[what], completed=done, total=total, note=note)
        if finished:
            self._bars.remove_task(self._tasks.pop(what))
            if not self._tasks:
                self._bars.stop()
                self._bars = None

    def close(self) -> None:
        """See :class:`Display`."""
        if self._bars:
            self._bars.stop()
            self._bars = None
            self._tasks.clear()


def _reopened(path: Path) -> IO[bytes]:
    """Opens the log for appending; removes a last line that a killed run left incomplete."""
    try:
        file = opened_at_end(path)
    except OSError as error:
        raise RunError(f"{path}: cannot be opened: {error.strerror}") from error
    if size := os.fstat(file.fileno()).st_size:
        with mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ) as text:
            end = text.rfind(b"\n") + 1
        file.truncate(end)
    return file


def score_name(score: Mapping[str, Any]) -> str:
    """A score's name for display and callbacks: ``evaluator/metric``, or one of them if they agree."""
    evaluator, metric = score.get("evaluator"), str(score["metric"])
    return metric if evaluator in (None, metric) else f"{evaluator}/{metric}"


def event_line(record: Mapping[str, Any]) -> str | None:
    """The line shown for an event, as rich markup; None for events that are only in the file.

    Raises KeyError, TypeError, ValueError or AttributeError for a damaged event.
    """
    event, stage = record["event"], escape(str(record.get("stage", "")))
    match event:
        case "stage_started":
            return f"[bold]{stage}[/]: {escape(str(record['verb']))}"
        case "stage_skipped":
            made_by = f", {record['message']}" if "message" in record else ""
            return f"[bold]{stage}[/]: already done{escape(made_by)}"
        case "strategy_chosen":
            fields = " ".join(str(v) for pair in record["strategy"].items() for v in pair)
            return f"  strategy {escape(fields.removeprefix('type '))}: {escape(record['why'])}"
        case "rows_chosen":
            return (
                f"  rows of {record['sequence']} tokens, while the context is {record['context']}: "
                "batch.sequence sets another length"
            )
        case "score":
            at = f" at step {record['step']}" if record.get("step") is not None else ""
            metric = score_name(record)
            told = score_text(record)
            level = "; 95 %" if {"±", "["} & set(told) else ""
            figure = f"{metric} {told} ({record['model']}{at}{level})"
            return f"  {escape(figure)}"
        case "warning":
            rank = f" (rank {record['rank']})" if "rank" in record else ""
            return f"  [yellow]warning{rank}[/]: {escape(record['message'])}"
        case "reads":
            return f"reads outside the spec's folder: {escape(record['message'])}"
        case "source" | "disk":
            return f"  {escape(record['message'])}"
        case "documents":
            return f"  {escape(_read(record, record['read'], record['documents'], 'documents'))}"
        case "examples":
            return f"  {escape(_read(record, record['records'], record['rows'], 'rows'))}"
        case "resumed":
            return f"  resumed from step {record['step']}"
        case "stopped":
            return f"[bold]{stage}[/]: stopped at step {record['step']}: {escape(record['reason'])}"
        case "ended_early":
            return f"  ended early at step {record['step']}: {escape(record['reason'])}"
        case "rolled_back":
            return f"  [yellow]rolled back to step {record['step']}[/]: {escape(record['reason'])}"
        case _:
            return None


def _read(record: Mapping[str, Any], read: int, given: int, unit: str) -> str:
    """Summary of a source's records: how many became what, and all that were dropped."""
    source = f"{record['source']}: " if "source" in record else ""
    dropped, bad = record["dropped"], record["bad_rows"]
    line = f"{source}{read:,} records → {given:,} {unit}"
    if cut := record.get("truncated"):
        line += f" ({cut:,} truncated)"
    if record["held_out"]:
        line += f", {record['held_out']:,} held out"
    if dropped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in dropped.items())
        line += f"; dropped: {reasons}"
    return f"{line} (the first: {bad[0]})" if bad else line


def _dumps(value: Any, default: Any = str, **_: Any) -> str:
    """One line of JSON. Numbers that are not finite become null, since JSON does not have them."""
    try:
        return json.dumps(value, default=default, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), default=default)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
