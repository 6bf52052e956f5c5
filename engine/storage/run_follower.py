"""Reads a run's folder, once or again and again: what was added to its log, and what its files say.

The run may be on another machine that shares the disk: nothing is locked, and nothing is asked of the
file system but to open, read and describe files.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import yaml

from engine.errors import RunError, SpecError
from engine.files.reading import json_of, open_regular, read_regular
from engine.spec.loading import RESOLVED
from engine.storage.manifest import unsealed
from engine.storage.run_history import RunHistory

LOG = "events.jsonl"
_KNOWN = 64
"""Bytes before the place reached that show whether the log is still the same."""


class RunFollower:
    """A run's ``history``, brought up to date by each call of :meth:`poll`.

    The folder need not be there yet. A log that was replaced or cut is read from its beginning, into a
    new history.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.history = RunHistory(path)
        self._offset = 0
        self._before = b""
        self._stamps: dict[Path, tuple[int, int]] = {}
        self._records: dict[str, dict[str, Any]] = {}

    @property
    def started(self) -> bool:
        """Whether the folder is that of a run."""
        return (self.path / RESOLVED).is_file() or (self.path / LOG).is_file()

    def poll(self) -> Iterator[Mapping[str, Any]]:
        """Yields each new event; reads the new part of the log alone, and files that have changed.

        A last line that has no end yet is left for the next call. Raises RunError if the log cannot be
        read.
        """
        try:
            with open_regular(self.path / LOG) as file:
                yield from self._appended(file)
        except FileNotFoundError:
            if self._offset:
                self._restart()
        except OSError as error:
            where = self.path / LOG
            raise RunError(f"{where}: cannot be read: {error.strerror or error}") from error
        self._look()

    def _appended(self, file: IO[bytes]) -> Iterator[Mapping[str, Any]]:
        # Bytes tell better than numbers of files, which a network file system may change.
        file.seek(max(0, self._offset - _KNOWN))
        if file.read(min(self._offset, _KNOWN)) != self._before:
            self._restart()
            file.seek(0)
        try:
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._offset += len(line)
                damaged = self.history.damaged
                if not line.isspace():
                    self.history.add(line)
                    if self.history.damaged == damaged:
                        yield self.history.last
        finally:
            file.seek(max(0, self._offset - _KNOWN))
            self._before = file.read(min(self._offset, _KNOWN))

    def _restart(self) -> None:
        self.history = RunHistory(self.path)
        self._offset, self._before = 0, b""
        self._stamps, self._records = {}, {}

    def _look(self) -> None:
        """Reads the files beside the log that are new or have changed."""
        history = self.history
        if (text := self._changed(self.path / RESOLVED)) is not None:
            history.spec = _mapping(yaml.safe_load, text)
        if (text := self._changed(self.path / "manifest.json")) is not None:
            history.manifest = _mapping(json_of, text)
        for name, stage in history.stages.items():
            if (text := self._changed(self.path / name / "stage.json")) is not None:
                self._records[name] = _mapping(unsealed, text)
            record = self._records.get(name, {})
            if stage.status == "running" and record.get("status") == "done":
                stage.status = "done"  # by a run whose log was lost
            if stage.status == "done":
                stage.summary = {**stage.summary, **_mapping(dict, record.get("summary", {}))}

    def _changed(self, file: Path) -> bytes | None:
        """The content of a file that has changed; None for another, and if it cannot be read."""
        try:
            found = os.stat(file)
            stamp = (found.st_mtime_ns, found.st_size)
            if self._stamps.get(file) == stamp:
                return None
            content = read_regular(file)
        except OSError:
            return None
        self._stamps[file] = stamp
        return content


def _mapping(parse: Callable[[Any], Any], text: Any) -> dict[str, Any]:
    """What a file holds, if it is a mapping; else it is damaged, and empty."""
    try:
        found = parse(text)
    except (ValueError, TypeError, RecursionError, yaml.YAMLError):
        return {}
    return dict(found) if isinstance(found, Mapping) else {}


def read_run(path: Path) -> RunHistory:
    """Reads a run's folder.

    Raises SpecError if it is not a run's folder, RunError if its log cannot be read.
    """
    follower = RunFollower(path)
    if not follower.started:
        raise SpecError(f"{path}: is not a run's folder", hint="name one such as runs/quickstart")
    deque(follower.poll(), maxlen=0)
    return follower.history
