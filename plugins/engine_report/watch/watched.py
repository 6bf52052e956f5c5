"""What a person wants to know of a run that is going on: if it is alive, how far it is, how fast."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections import defaultdict, deque
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from engine import RunError, RunFollower, RunHistory, StageHistory
from engine_report.watch.progress import Event, step_seconds
from engine_report.watch.words import number_of

_WARNINGS = 3
"""Different warnings that are kept, the last ones."""
_PACE = 256
"""Steps by which the speed is measured."""
_LOOKED_AT = 1000
"""Files of a stage whose times are looked at, and """
_FEEL = 10.0
"""seconds without an event after which they are, each time again."""
_QUIET = 60.0
"""Seconds without a sign of life that are told, if its steps do not take as long."""


class Watched:
    """A run's folder that is looked at again and again.

    A sign of life is an event, or a file of the running stage that changes: the run may be on another
    machine, which cannot be asked, and whose clock may be another. So only changes count, by this
    machine's clock, except for what was there at the first look. ``timeout``: seconds without one
    after which it is told, at the latest.
    """

    def __init__(self, path: Path, timeout: float = math.inf) -> None:
        self.path = path
        self._timeout = timeout
        self.trouble: str | None = None
        self.steps: dict[str, Event] = {}
        self.pace: dict[str, deque[Event]] = defaultdict(lambda: deque(maxlen=_PACE))
        self.warnings: dict[str, int] = {}
        self._follower = RunFollower(path)
        self._noted = self._follower.history
        self._alive: float | None = None
        self._touched = self._felt = 0.0

    @property
    def history(self) -> RunHistory:
        """What is known of the run."""
        return self._follower.history

    def look(self) -> Iterator[Event]:
        """Yields the new events. A log that cannot be read is told as ``trouble``, and read later."""
        self.trouble, seen = None, False
        try:
            for event in self._follower.poll():
                if not seen:
                    self._begin_again()
                    seen = True
                self._note(event)
                yield event
            self._begin_again()
        except RunError as error:
            self.trouble = str(error)
        self._feel(seen)

    def _begin_again(self) -> None:
        """Forgets what was noted of a log that another has replaced."""
        if self._noted is not self.history:
            self._noted = self.history
            for notes in (self.steps, self.pace, self.warnings):
                notes.clear()

    def _note(self, event: Event) -> None:
        stage = str(event.get("stage"))
        match event["event"]:
            case "step":
                self.steps[stage] = event
                self.pace[stage].append(event)
            case "stage_started" | "resumed" | "rolled_back":
                self.pace[stage].clear()
            case "warning":
                message = str(event.get("message"))
                self.warnings[message] = self.warnings.pop(message, 0) + 1  # as the last one
                if len(self.warnings) > _WARNINGS:
                    del self.warnings[next(iter(self.warnings))]

    def _feel(self, seen: bool) -> None:
        """Notes whether there was a sign of life."""
        now = time.monotonic()
        if not self._follower.started:  # or no longer: it was moved away
            self._alive = None
        elif self._alive is None:
            latest = number_of(self.history.last.get("time")) or 0.0
            self._touched, self._felt = self._last_change(), now
            latest = max(latest, self._touched) or _changed(self.path)
            self._alive = now - max(0.0, time.time() - latest)
        elif seen:
            self._alive = now
        elif now - max(self._alive, self._felt) > _FEEL:
            touched, self._felt = self._last_change(), now
            if touched != self._touched:
                self._touched, self._alive = touched, now

    def _last_change(self) -> float:
        """The latest time of a file of the running stage; 0 if no stage is running."""
        stage = self.running
        if stage is None:
            return 0.0
        found = os.walk(self.path / stage.name)
        paths = (os.path.join(folder, name) for folder, _, names in found for name in ("", *names))
        times = [0.0]
        for path in islice(paths, _LOOKED_AT):
            with contextlib.suppress(OSError):  # removed meanwhile
                times.append(os.lstat(path).st_mtime)
        return max(times)

    @property
    def running(self) -> StageHistory | None:
        """The stage that is running, as far as the log tells."""
        return next((s for s in self.begun if s.status == "running"), None)

    @property
    def begun(self) -> list[StageHistory]:
        """The stages that have been started, without those that the spec no longer has."""
        stages = self.history.stages
        return [stages[name] for name in self.planned if name in stages]

    @property
    def planned(self) -> list[str]:
        """The names of all stages, those first that have been started."""
        given = self.history.spec.get("stages")
        if not isinstance(given, dict):
            return list(self.history.stages)
        names = list(map(str, given))
        return list(dict.fromkeys([*(n for n in self.history.stages if n in names), *names]))

    @property
    def quiet_seconds(self) -> float | None:
        """Seconds since the last sign of life; None before the first."""
        return None if self._alive is None else time.monotonic() - self._alive

    @property
    def is_quiet(self) -> bool:
        """Whether that is long, beside the time of its steps."""
        stage = self.running
        mean = step_seconds(self.pace.get(stage.name, ())) if stage else None
        return (self.quiet_seconds or 0.0) > min(self._timeout, max(_QUIET, 10 * (mean or 0.0)))

    @property
    def end(self) -> str | None:
        """``done``, ``failed`` or ``stopped``; None while it may go on."""
        last, begun = self.history.last, self.begun
        whole = bool(self.history.spec and begun) and len(begun) == len(self.planned)
        if whole and all(stage.status == "done" for stage in begun):
            return "done"
        if last.get("event") == "failed":
            return "failed"
        stage = self.history.stages.get(str(last.get("stage")))
        saved = last.get("event") == "checkpoint" and stage and stage.status == "stopped"
        return "stopped" if saved or last.get("event") in ("stopped", "interrupted") else None


def _changed(path: Path) -> float:
    """When a folder was last changed; now, if it has gone."""
    try:
        return path.stat().st_mtime
    except OSError:
        return time.time()
