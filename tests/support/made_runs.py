"""Folders of runs with a log of one's own, written at once."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

Event = Mapping[str, Any]


def made_run(
    folder: Path,
    events: Iterable[Event],
    *,
    spec: Mapping[str, Any] | None = None,
    manifest: Mapping[str, Any] | None = None,
) -> Path:
    """A run's folder with these events, a second apart unless they have a time."""
    folder.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps({"time": 1.7e9 + n, **event}) for n, event in enumerate(events))
    (folder / "events.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    (folder / "resolved.yaml").write_text(yaml.safe_dump(spec or {}), encoding="utf-8")
    (folder / "manifest.json").write_text(json.dumps(manifest or {}), encoding="utf-8")
    return folder


def begun(stage: str = "base", verb: str = "train") -> Event:
    """A stage begins."""
    return {"event": "stage_started", "stage": stage, "verb": verb}


def step(number: int, loss: float | None = 2.0, stage: str = "base", **figures: Any) -> Event:
    """A training step of 100 tokens."""
    known = {"event": "step", "stage": stage, "step": number, "tokens": 100 * number}
    return {**known, "loss": loss, "skipped": False, "tokens_per_second": 50.0, **figures}


def score(value: float, at: int | None = None, stage: str = "base", **fields: Any) -> Event:
    """A score of 40 items with a standard error of 0.1."""
    known = {"event": "score", "stage": stage, "model": stage, "step": at, "evaluator": "quiz"}
    own = {"metric": "acc", "value": value, "stderr": 0.1, "n": 40, "interval": None}
    return {**known, **own, **fields}
