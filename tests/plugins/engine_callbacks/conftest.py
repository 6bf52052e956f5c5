"""Training on poisoned samples, runs that break off, and the trackers' logs read back."""

from __future__ import annotations

import json
import math
import os
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from engine_lm.next_token import NextTokenObjective
from support.internals import TrainingData

os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # it begins with the import

Log = dict[str, list[tuple[int, float]]]


class PowerFailure(BaseException):
    """Nothing in the engine expects it."""


@dataclass
class Samples:
    """What training reads: the global indices of every step's samples, in the order of steps.

    ``poison`` multiplies the loss, and so the gradient, of any step that reads an index.
    """

    taken: list[list[int]] = field(default_factory=list)
    poison: dict[int, float] = field(default_factory=dict)
    power_fails_before: int | None = None
    """Breaks off as a kill does, without saving, before this step of the process."""

    PowerFailure = PowerFailure

    def factor(self) -> float:
        return math.prod(self.poison.get(i, 1.0) for i in self.taken[-1])


@pytest.fixture
def samples(monkeypatch) -> Samples:
    seen = Samples()
    take, loss = TrainingData.take, NextTokenObjective.loss

    def spy(self, cursor, count, excluded, part, of):
        if len(seen.taken) + 1 == seen.power_fails_before:
            raise PowerFailure
        examples, after = take(self, cursor, count, excluded, part, of)
        inside = [i for i in range(cursor, after) if not any(a <= i < b for a, b in excluded)]
        assert len(inside) == count
        seen.taken.append(inside)
        return examples, after

    def poisoned(self, hidden_BTD, head, batch):
        terms = loss(self, hidden_BTD, head, batch)
        return {name: term * seen.factor() for name, term in terms.items()}

    monkeypatch.setattr(TrainingData, "take", spy)
    monkeypatch.setattr(NextTokenObjective, "loss", poisoned)
    return seen


@pytest.fixture(autouse=True)
def _trackers_keep_to_themselves(monkeypatch, tmp_path) -> None:
    """Nothing of theirs lands in the user's home."""
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))


def _tensorboard(stage: Path) -> Log:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(stage / "tensorboard")).Reload()
    return {
        name: [(event.step, event.value) for event in log.Scalars(name)]
        for name in log.Tags()["scalars"]
    }


def _wandb(stage: Path) -> Log:
    log: Log = defaultdict(list)
    runs = {record.run.run_id for record in _wandb_records(stage) if record.HasField("run")}
    assert len(runs) == 1  # though in several folders
    for record in _wandb_records(stage):
        if record.HasField("history"):
            row = {".".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            for name, value in row.items():
                log[name].append((int(row["_step"]), json.loads(value)))
    return log


def _mlflow(stage: Path) -> Log:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{stage}/mlflow.db")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


@pytest.fixture
def read_log() -> Callable[[str, Path], Log]:
    """Reads a tracker's log of a stage back: each figure's (step, value), in the order written."""
    readers = {"tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
    return lambda tracker, stage: readers[tracker](stage)


@pytest.fixture
def wandb_records() -> Callable[[Path], Iterator]:
    """What wandb has on disk for a stage."""
    return _wandb_records


def _wandb_records(stage: Path) -> Iterator:
    """Of all the run's folders, oldest first."""
    from wandb.proto.wandb_internal_pb2 import Record

    for file in sorted(stage.glob("wandb/*run-*/run-*.wandb")):
        for data in _leveldb_records(file.read_bytes()):
            yield Record.FromString(data)


def _leveldb_records(data: bytes) -> Iterator[bytes]:
    """wandb writes LevelDB's log format, after seven bytes of its own: blocks of 32 KiB with
    chunks of (checksum, length, kind), where kind 1 is a whole record and 2, 3, 4 are its parts."""
    at, record = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        _, length, kind = struct.unpack("<IHB", data[at : at + 7])
        record += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):
            yield record
            record = b""
