"""Reads what a run has written to its folder, also while it is running."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any


def events(run: Path, name: str | None = None, **fields: Any) -> list[dict[str, Any]]:
    """All events of the log, or those of one name and with these values: ``stage="base"``.

    None where the log is not there yet; a last line that is not yet whole is left out.
    """
    file = run / "events.jsonl"
    text = file.read_text(encoding="utf-8") if file.exists() else ""
    wanted = {**fields, **({"event": name} if name else {})}.items()
    whole = map(json.loads, text.split("\n")[:-1])
    return [event for event in whole if wanted <= event.items()]


def steps(run: Path, field: str = "step", **fields: Any) -> list[Any]:
    """A field of every training step, such as its number or its loss."""
    return [event[field] for event in events(run, "step", **fields)]


def weights(run: Path, stage: str = "base") -> dict[str, Any]:
    """A finished stage's, by name."""
    from safetensors.torch import load_file

    return load_file(run / stage / "final" / "model.safetensors")
