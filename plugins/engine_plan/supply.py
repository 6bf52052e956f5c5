"""The data that a stage would find: a corpus that an earlier run of the spec has prepared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import yaml

from engine import Situation, read_json, read_regular


@dataclass(frozen=True, slots=True)
class Supply:
    """A prepared corpus: its ``tokens``, its ``folder``, and the checksum of its ``tokenizer``."""

    tokens: int
    folder: Path
    tokenizer: str


def supply(situation: Situation, stage: str, runs: Path) -> Supply | None:
    """The corpus of a train stage; None if it is not prepared, or was by another spec."""
    spec = situation.spec
    train = spec.stages[stage].train
    data = train.data.prepare_stage() if train else None
    if data is None:
        return None
    folder = runs / spec.name
    now = spec.model_dump(mode="json", exclude_none=True)
    try:
        before = yaml.safe_load(read_regular(folder / "resolved.yaml"))
        same = before["seed"] == now["seed"] and before["stages"][data] == now["stages"][data]
        sources = read_json(folder / data / "card.json")["sources"]
        files = read_json(folder / data / "manifest.json")["files"]
        tokens = sum(int(source["tokens"]) for source in sources)
        tokenizer = str(files.get("tokenizer/tokenizer.json", ""))
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        RecursionError,
        yaml.YAMLError,
    ):
        return None
    return Supply(tokens, folder / data, tokenizer) if same and tokens > 0 else None
