"""What a stage's model is made from and how large it is, as far as configurations tell."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from engine.layout import ModelShape

if TYPE_CHECKING:
    from engine.config import ModelConfig
    from engine.spec import Stage

Stages = Mapping[str, "Stage | None"]
"""By name; None for one that is wrong in itself."""


def shape_of(stages: Stages, name: str) -> ModelShape | None:
    """The sizes of the model that a stage trains; None where they cannot be told.

    Raises OSError or ValueError for a model's or tokenizer's file that is damaged.
    """
    found = _origin(stages, name)
    return found[1].shape(_vocabulary(stages, found[0])) if found else None


def model_of(stages: Stages, name: str) -> ModelConfig | None:
    """The model that a stage begins with, or that the stages before it began with."""
    found = _origin(stages, name)
    return found[1] if found else None


def _origin(stages: Stages, name: str) -> tuple[str, ModelConfig] | None:
    """The stage where the model comes in, and the model."""
    seen: set[str] = set()
    while name not in seen:
        seen.add(name)
        train = getattr(stages.get(name), "train", None)
        if train is None:
            return None
        base = getattr(train.model, "stage", None)
        if base is None:
            return name, train.model
        name = base
    return None  # a circle, which is told elsewhere


def _vocabulary(stages: Stages, name: str) -> int | None:
    train: Any = getattr(stages[name], "train", None)
    prepare = getattr(stages.get(getattr(train.data, "stage", "")), "prepare", None)
    told = getattr(prepare and prepare.tokenizer, "vocabulary", None)
    return told() if told else None
