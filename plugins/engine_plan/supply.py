"""The data that a stage would find: a corpus that an earlier run of the spec has prepared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine import REPEATS, Situation, effective_tokens, read_json, read_regular


@dataclass(frozen=True, slots=True)
class Supply:
    """A prepared corpus: its ``sources``, each with its tokens and its share of the mixture, its
    ``folder``, and the checksum of its ``tokenizer``."""

    sources: Mapping[str, tuple[int, float]]
    folder: Path
    tokenizer: str

    @property
    def tokens(self) -> int:
        """Those of all sources that are read, which are an epoch."""
        return sum(tokens for tokens, _ in self.sources.values())

    def epochs(self, needed: float) -> Mapping[str, float]:
        """How often each source is read for so many tokens, as if it had no ``max_epochs``."""
        return {name: needed * share / tokens for name, (tokens, share) in self.sources.items()}

    def effective(self, needed: float, repeats: float = REPEATS) -> float:
        """The fresh tokens that so many are worth: the sum of those of each source, which alone is
        read again once it is through (see :func:`engine.effective_tokens`)."""
        return sum(
            effective_tokens(tokens, needed * share, repeats)
            for tokens, share in self.sources.values()
        )


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
        sources = _sources(read_json(folder / data / "card.json"))
        files = read_json(folder / data / "manifest.json")["files"]
        tokenizer = str(files.get("tokenizer/tokenizer.json", ""))
    except (
        OSError,
        ValueError,
        LookupError,
        TypeError,
        AttributeError,
        ArithmeticError,
        RecursionError,
        yaml.YAMLError,
    ):
        return None
    return Supply(sources, folder / data, tokenizer) if same and sources else None


def _sources(card: Mapping[str, Any]) -> Mapping[str, tuple[int, float]]:
    """The tokens and shares of a card's sources that are read."""
    mixture = {one["source"]: float(one["weight"]) for one in card["mixture"]}
    whole = sum(mixture.values())
    tokens = {one["source"]: int(one["tokens"]) for one in card["sources"]}
    return {
        name: (tokens[name], weight / whole)
        for name, weight in mixture.items()
        if weight > 0 and tokens[name] > 0
    }
