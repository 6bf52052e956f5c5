"""Runs generated specs, each as a run of its own, in processes of their own, one after the other.

A folder holds all of a sweep: ``specs/base.yaml``, the spec that all others extend;
``specs/NAME.yaml``, what a run changes of it; ``runs/NAME``, the run; ``logs/NAME.txt``, what a
failed run said. `engine run` takes each of these specs alike. What is done is not repeated, and what
was killed goes on from its last checkpoint.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import yaml

from engine import RunError, SpecError, StageHistory, json_of, read_regular, read_run, write_durably

_IN_USE = "another run is using this folder"
_WAIT = 2.0
"""Seconds between looks at a run that another process has."""

Event = Mapping[str, Any]
Launch = Callable[[Sequence[str], Callable[[Event], None]], tuple[int, str]]
"""Runs `engine ARGUMENTS`, tells each event of its log, and returns the exit status, negative for a
signal, and what it wrote to standard error."""


@dataclass(frozen=True, slots=True)
class Job:
    """A run to be made.

    ``changes``: what its spec changes of the base, as nested mappings; ``seconds``: the time that it
    is thought to take, NaN if unknown; ``about``: figures of it that are shown, by column.
    """

    name: str
    changes: Mapping[str, Any]
    seconds: float = float("nan")
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a job: its stage, and where it failed the reason. ``seconds``: those of its
    process now, 0 if it was done before."""

    job: Job
    status: Literal["done", "failed"]
    stage: StageHistory
    reason: str = ""
    seconds: float = 0.0


class Watcher(Protocol):
    """Sees how the jobs go on."""

    def started(self, job: Job) -> None:
        """A job was started."""

    def event(self, job: Job, event: Event) -> None:
        """A job has logged an event."""

    def ended(self, outcome: Outcome) -> None:
        """A job has ended, now or before."""


def in_a_process(arguments: Sequence[str], tell: Callable[[Event], None]) -> tuple[int, str]:
    """See :data:`Launch`: in a process of its own, which is asked to stop if this one is."""
    command = [sys.executable, "-m", "engine.cli", *arguments]
    with (
        tempfile.TemporaryFile() as told,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told) as child,
    ):
        assert child.stdout is not None
        try:
            for line in child.stdout:
                with_event(line, tell)
            status = child.wait()
        except BaseException:
            child.terminate()  # it saves a checkpoint first
            child.wait()
            raise
        told.seek(0)
        return status, told.read().decode("utf-8", "replace")


def with_event(line: bytes, tell: Callable[[Event], None]) -> None:
    """Tells the event of a line, if it is one."""
    try:
        event = json_of(line)
    except ValueError:
        return
    if isinstance(event, dict):
        tell(event)


class Runner:
    """Runs jobs in a folder; all of them share the finished ``prepared`` stage of the base's own run.

    Raises SpecError if the folder belongs to another base.
    """

    def __init__(
        self,
        folder: Path,
        base: Mapping[str, Any],
        *,
        prepared: str,
        stage: str,
        options: Sequence[str] = (),
        launch: Launch = in_a_process,
    ) -> None:
        self.folder, self.runs = folder, folder / "runs"
        self._base, self._prepared, self._stage = base, prepared, stage
        self._options, self._launch = tuple(options), launch
        text = yaml.safe_dump(dict(base), sort_keys=False, allow_unicode=True)
        file = folder / "specs" / "base.yaml"
        if file.exists() and read_regular(file).decode("utf-8") != text:
            raise SpecError(
                f"{folder}: holds runs of another spec, or of this one before a change",
                hint="give another folder with --to, or remove this one",
            )
        write_durably(file, text)

    def prepare(self, tell: Callable[[Event], None]) -> Path:
        """Makes the shared stage, and returns its folder. Raises RunError."""
        made = self.runs / str(self._base["name"]) / self._prepared
        status, told = self._start("base", ["--stage", self._prepared], tell)
        if status:
            raise RunError(f"{self._prepared}: {_reason(status, told)}")
        return made

    def write(self, job: Job) -> Path:
        """Writes a job's spec. Raises SpecError if a run was begun with another spec of this name."""
        spec = {"engine": 1, "extends": "base.yaml", "name": job.name, **job.changes}
        text = yaml.safe_dump(spec, sort_keys=False, allow_unicode=True)
        file = self.folder / "specs" / f"{job.name}.yaml"
        begun = (self.runs / job.name).exists() and file.exists()
        if begun and read_regular(file).decode("utf-8") != text:
            raise SpecError(
                f"{file}: has changed since its run was begun",
                hint="give another folder with --to, or remove this run",
            )
        write_durably(file, text)
        return file

    def run(self, jobs: Iterable[Job], watcher: Watcher) -> Iterator[Outcome]:
        """Runs jobs in order, and yields what became of each; one that fails stops no other."""
        with _terminated_as_interrupted():
            for job in jobs:
                outcome = self._run(job, watcher)
                watcher.ended(outcome)
                yield outcome

    def _run(self, job: Job, watcher: Watcher) -> Outcome:
        self.write(job)
        path = self.runs / job.name
        if path.exists() and (stage := self._history(path)).status == "done":
            return Outcome(job, "done", stage)
        watcher.started(job)
        self._share(path / self._prepared)
        began = time.monotonic()
        status, told = self._start(job.name, [], lambda event: watcher.event(job, event))
        took = time.monotonic() - began
        stage = self._history(path)
        if status == 0 and stage.status == "done":
            return Outcome(job, "done", stage, seconds=took)
        write_durably(self.folder / "logs" / f"{job.name}.txt", told)
        return Outcome(job, "failed", stage, _reason(status, told), took)

    def _start(
        self, name: str, more: Sequence[str], tell: Callable[[Event], None]
    ) -> tuple[int, str]:
        """Runs a spec; waits for a process that a killed sweep has left behind with the same run."""
        spec = str(self.folder / "specs" / f"{name}.yaml")
        arguments = ["run", spec, "--runs", str(self.runs), "--json", *more, *self._options]
        while True:
            status, told = self._launch(arguments, tell)
            if status != 1 or _IN_USE not in told:
                return status, told
            time.sleep(_WAIT)

    def _history(self, path: Path) -> StageHistory:
        try:
            return read_run(path).stages.get(self._stage, StageHistory(self._stage))
        except SpecError:  # killed before it wrote anything
            return StageHistory(self._stage)

    def _share(self, target: Path) -> None:
        """Makes a run's prepared stage of links to the shared one's files, which take no disk; of
        copies where the disk has no links."""
        if target.exists():
            return
        source = self.runs / str(self._base["name"]) / self._prepared
        partial = target.with_name(f".{target.name}.partial")
        shutil.rmtree(partial, ignore_errors=True)
        shutil.copytree(source, partial, copy_function=_link)
        os.replace(partial, target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)


def _reason(status: int, told: str) -> str:
    """Why a process failed, in one line."""
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    lines = [line.strip() for line in told.splitlines() if line.strip()]
    wrong = [line for line in lines if line.startswith("error:")]
    return (wrong or lines or [f"it ended with status {status}"])[-1].removeprefix("error: ")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """Treats a request to terminate as Ctrl-C, so that the child is stopped, too."""
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
