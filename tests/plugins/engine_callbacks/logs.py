"""Reads the trackers' logs back: each figure's (step, value) by name, in the order written."""

from __future__ import annotations

import json
import struct
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

Log = dict[str, list[tuple[int, float]]]


def tensorboard(stage: Path) -> Log:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(stage / "tensorboard")).Reload()
    return {
        name: [(event.step, event.value) for event in log.Scalars(name)]
        for name in log.Tags()["scalars"]
    }


def wandb(stage: Path) -> Log:
    log: Log = defaultdict(list)
    for record in wandb_records(stage):
        if record.HasField("history"):
            row = {".".join(i.nested_key) or i.key: i.value_json for i in record.history.item}
            for name, value in row.items():
                log[name].append((int(row["_step"]), json.loads(value)))
    return log


def mlflow(stage: Path) -> Log:
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{stage}/mlflow.db")
    (run,) = client.search_runs([e.experiment_id for e in client.search_experiments()])
    return {
        name: [(m.step, m.value) for m in client.get_metric_history(run.info.run_id, name)]
        for name in run.data.metrics
    }


READ: dict[str, Callable[[Path], Log]] = {
    "tensorboard": tensorboard,
    "wandb": wandb,
    "mlflow": mlflow,
}


def wandb_records(stage: Path) -> Iterator:
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
