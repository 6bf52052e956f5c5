"""Watches a run until it ends: on a screen, in lines, or as JSON."""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from rich.live import Live
from rich.markup import escape
from rich.text import Text

from engine import SpecError, Terminal, event_line, write_cleaned
from engine_report.watch.progress import Event
from engine_report.watch.screen import (
    Screen,
    divergence,
    early_end,
    shown_stage,
    state,
    step_line,
)
from engine_report.watch.watched import Watched
from engine_report.watch.words import figure

_STEPS_EVERY = 30.0
"""Seconds between two lines about steps."""


class _View(Protocol):
    def event(self, event: Event) -> None:
        """Shows a new event."""

    def looked(self) -> None:
        """Shows what has become of the run after each look."""


def watch_run(path: Path, every: float, timeout: float, as_json: bool) -> int:
    """Shows a run until it ends or the user leaves; returns the exit status.

    ``every``: seconds between two looks; ``timeout``: seconds without a sign of life after which it
    gives up. Raises SpecError for a folder that is no run and cannot become one.
    """
    _check(path)
    watched, terminal = Watched(path, timeout), Terminal()
    if as_json:
        return _until_end(watched, every, timeout, _Json(watched))
    if not terminal.is_terminal:
        return _until_end(watched, every, timeout, _Lines(watched, terminal))
    with Live(console=terminal, auto_refresh=False) as live:
        return _until_end(watched, every, timeout, _Live(watched, live))


def _until_end(watched: Watched, every: float, timeout: float, view: _View) -> int:
    began = time.monotonic()
    try:
        while True:
            for event in watched.look():
                view.event(event)
            view.looked()
            if watched.end:
                return 0 if watched.end == "done" else 1
            quiet = watched.quiet_seconds
            if quiet is not None:
                began = time.monotonic()  # of the wait, if it is moved away
            if (time.monotonic() - began if quiet is None else quiet) > timeout:
                why = f"looked no longer: no sign of life for {timeout:g} s (--timeout)"
                write_cleaned(f"{why}\n", error=True)
                return 1
            time.sleep(every)
    except KeyboardInterrupt:
        return 1


def _check(path: Path) -> None:
    """Raises SpecError for what is no run's folder and will not become one."""
    if path.exists() and not path.is_dir():
        raise SpecError(f"{path}: is not a folder", hint="name a run's, such as runs/quickstart")
    if (path / "stage.json").is_file():
        raise SpecError(f"{path}: is a stage's folder", hint=f"name its run: {path.parent}")
    runs = sorted(file.parent for file in path.glob("*/resolved.yaml"))
    if runs and not (path / "resolved.yaml").is_file():
        raise SpecError(f"{path}: is a folder of runs", hint=f"name one, such as {runs[0]}")


def _finite(value: Any) -> Any:
    """A value of an event with null for numbers that are not finite, which JSON does not have."""
    if isinstance(value, Mapping):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list):
        return list(map(_finite, value))
    return None if isinstance(value, float) and not math.isfinite(value) else value


class _Live:
    """Draws the screen again after each look."""

    def __init__(self, watched: Watched, live: Live) -> None:
        self._screen, self._live = Screen(watched), live
        live.update(Text(f"reading {watched.path} …"), refresh=True)

    def event(self, event: Event) -> None:
        """See :class:`_View`; the screen shows it with all others."""

    def looked(self) -> None:
        """See :class:`_View`."""
        self._live.update(self._screen, refresh=True)


class _Json:
    """Prints each event as a line of JSON, and to standard error what the log does not tell."""

    def __init__(self, watched: Watched) -> None:
        self._watched, self._state = watched, "running"

    def event(self, event: Event) -> None:
        """See :class:`_View`."""
        print(json.dumps(_finite(event)))  # noqa: T201 - a command's output

    def looked(self) -> None:
        """See :class:`_View`."""
        sys.stdout.flush()
        word, line = state(self._watched)
        if word != self._state:
            self._state = word
            write_cleaned(f"{line}\n", error=True)


class _Lines:
    """Prints how far the run is, and then a line for what happens; of steps, one from time to time."""

    def __init__(self, watched: Watched, terminal: Terminal) -> None:
        self._watched, self._terminal = watched, terminal
        self._state, self._stepped = "", 0.0
        self._following = False

    def event(self, event: Event) -> None:
        """See :class:`_View`. Of what was there at the first look, only the outcome is told."""
        if not self._following:
            return
        if event["event"] == "step":
            if time.monotonic() - self._stepped >= _STEPS_EVERY:
                self._step()
            return
        with contextlib.suppress(KeyError, TypeError, ValueError, AttributeError):  # it is damaged
            if line := event_line(event):
                self._print(line)
        if event["event"] == "stage_finished":
            if str(event.get("stage")) in self._watched.steps:
                self._step()
            self._print(f"[bold]{escape(str(event.get('stage')))}[/]: done")

    def looked(self) -> None:
        """See :class:`_View`."""
        word, line = state(self._watched)
        if not self._following and self._watched.begun:
            for stage in self._watched.begun:
                told = ", ".join(filter(None, (escape(stage.verb), stage.status)))
                self._print(f"[bold]{escape(stage.name)}[/]: {told}")
                if why := early_end(stage):
                    self._print(f"  {escape(why)}")
            self._step()
        if word != self._state:
            self._state = word
            self._print(escape(line))
        self._following = True

    def _step(self) -> None:
        """Prints how far the shown stage is, with its loss and its speed."""
        stage = shown_stage(self._watched)
        if stage is None:
            return
        self._stepped, last = time.monotonic(), self._watched.steps[stage.name]
        told = [step_line(self._watched, stage)]
        loss = divergence(stage) or (
            f"loss {figure('loss', last['loss'])}" if "loss" in last else ""
        )
        told += filter(None, [loss])
        speed = last.get("tokens_per_second")
        told += [f"{figure('tokens_per_second', speed)} tokens/s"] if speed else []
        self._print(f"[bold]{escape(stage.name)}[/]: {escape(' · '.join(told))}")

    def _print(self, markup: str) -> None:
        self._terminal.print(markup, soft_wrap=True)
