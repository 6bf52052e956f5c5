"""Origin and size of a stage's model, as far as configurations determine them."""

from __future__ import annotations

from collections.abc import Mapping

from engine.contracts.model_config import ModelConfig
from engine.contracts.model_sizes import ModelShape
from engine.contracts.spec import Stage

Stages = Mapping[str, "Stage | None"]
"""Stages by name; None for an invalid one."""


def shape_of(stages: Stages, name: str, *, built: bool = False) -> ModelShape | None:
    """The sizes of the model that a stage trains; None if they are unknown.

    ``built``: those of the built model, which takes seconds. Raises OSError or ValueError for a damaged
    file of a model or tokenizer.
    """
    found = _origin(stages, name)
    if found is None:
        return None
    name, model = found
    return (model.built_shape if built else model.shape)(_vocabulary(stages, name))


def model_of(stages: Stages, name: str) -> ModelConfig | None:
    """The model that a stage's chain of train stages started from; None if unknown."""
    found = _origin(stages, name)
    return found[1] if found else None


def _origin(stages: Stages, name: str) -> tuple[str, ModelConfig] | None:
    """The first train stage of the chain that leads to ``name``, and its model."""
    seen: set[str] = set()
    while name not in seen:
        seen.add(name)
        stage = stages.get(name)
        if stage is None or stage.train is None:
            return None
        model = stage.train.model
        if model.origin.stage is None:
            return name, model
        name = model.origin.stage
    return None  # a cycle, which is reported elsewhere


def _vocabulary(stages: Stages, name: str) -> int | None:
    stage = stages[name]
    data = stages.get(stage.train.data.prepare_stage() or "") if stage and stage.train else None
    return data.prepare.tokenizer.vocabulary() if data and data.prepare else None
