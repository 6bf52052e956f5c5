"""A run's folder that a test writes as a run would."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

STAGES = {"corpus": {"prepare": {}}, "base": {"train": {"budget": "40 steps", "batch": {}}}}


class Written:
    """The folder, and what adds to it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.log = folder / "events.jsonl"

    def start(self, stages: Any = STAGES) -> None:
        """The spec, and the stage ``base`` after ``corpus``."""
        self.folder.mkdir()
        (self.folder / "resolved.yaml").write_text(yaml.safe_dump({"stages": stages}))
        self.add("stage_started", stage="corpus", verb="prepare")
        self.add("stage_finished", stage="corpus", seconds=12.0)
        self.add("stage_started", stage="base", verb="train")

    def add(self, event: str, *, ago: float = 0.0, **fields: Any) -> None:
        """An event, of so many seconds ago."""
        told = {"time": round(time.time() - ago, 3), "stage": "base", **fields, "event": event}
        if fields.get("stage", "") is None:
            del told["stage"]
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(told) + "\n")

    def step(self, number: int, **fields: Any) -> None:
        """A step."""
        told = {"loss": 5 / number, "lr": 1e-3, "grad_norm": 0.8, "skipped": False, **fields}
        told = {"tokens": 256 * number, "tokens_per_second": 4800.5, "memory": 10**9, **told}
        self.add("step", step=number, **told)


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """A folder that is not there yet."""
    return Written(tmp_path / "run")
