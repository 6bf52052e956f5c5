"""Alternating runs: two processes on the same cores, one of them always stopped.

Whatever else the machine does then falls on both alike, and a ratio of neighbours cancels it.
"""

from __future__ import annotations

import json
import math
import os
import queue
import signal
import statistics
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scipy import stats


@dataclass(frozen=True)
class Ratio:
    """Geometric mean of paired ratios with its 95 % interval (t distribution of the logs)."""

    mean: float
    low: float
    high: float
    pairs: int

    @classmethod
    def of(cls, ours: Sequence[float], theirs: Sequence[float]) -> Ratio:
        logs = [math.log(a / b) for a, b in zip(ours, theirs, strict=True)]
        middle, n = statistics.fmean(logs), len(logs)
        half = stats.t.ppf(0.975, n - 1) * statistics.stdev(logs) / math.sqrt(n)
        return cls(math.exp(middle), math.exp(middle - half), math.exp(middle + half), n)

    def __str__(self) -> str:
        return f"{self.mean:.2f}× [{self.low:.2f}, {self.high:.2f}] over {self.pairs} pairs"


class Paused:
    """A training process that prints a JSON line per ``event``, a step or a round of them, and runs
    only in bursts."""

    def __init__(self, command: Sequence[object], log: Path, event: str) -> None:
        self._log, self._event = log.open("w"), event
        self._process = subprocess.Popen(
            list(map(str, command)), stdout=subprocess.PIPE, stderr=self._log, text=True
        )
        self._events: queue.Queue[dict[str, Any] | None] = queue.Queue()
        self.told: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                if line.startswith('{"event"'):
                    self._events.put(json.loads(line))
        self._events.put(None)

    @property
    def losses(self) -> list[float]:
        """Of all steps so far."""
        return [event["loss"] for event in self.told]

    def burst(self, steps: int) -> float:
        """Seconds of a step, over so many; the step in which it was stopped is not counted."""
        self._process.send_signal(signal.SIGCONT)
        times: list[float] = []
        while len(times) < steps + 1:
            event = self._events.get(timeout=600)
            assert event is not None, Path(self._log.name).read_text()[-3000:]
            if event["event"] == self._event:
                self.told.append(event)
                times.append(event["time"])
        self._process.send_signal(signal.SIGSTOP)
        return (times[-1] - times[0]) / steps

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._reader.join()
        self._log.close()


@pytest.fixture(autouse=True)
def _as_users_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine's own precision, and threads that wait for each other awake, as one process runs at a
    time here: asleep, a round of PPO took 1.7 times as long."""
    monkeypatch.delenv("ENGINE_PRECISION")
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)


@pytest.fixture
def paused(tmp_path: Path) -> Iterator[Callable[..., Paused]]:
    """Starts a process for :class:`Paused`; all end with the test."""
    started: list[Paused] = []

    def start(*command: object, event: str = "step") -> Paused:
        started.append(Paused(command, tmp_path / f"{len(started)}.log", event))
        return started[-1]

    yield start
    for process in started:
        process.close()


@pytest.fixture(scope="session")
def library_text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The standard library's sources as one document, so that no peer needs document masks."""
    file = tmp_path_factory.mktemp("text") / "library.txt"
    modules = sorted(Path(os.__file__).parent.glob("*.py"))
    file.write_text("\n".join(m.read_text(encoding="utf-8") for m in modules), encoding="utf-8")
    return file


@pytest.fixture
def ratio() -> Callable[[Sequence[float], Sequence[float]], Ratio]:
    """Paired measurements to their ratio."""
    return Ratio.of
