"""Opens models of other train stages: references, initial critics, reward models."""

from __future__ import annotations

import copy
from typing import Any

from torch import nn

from engine import Context, RunError
from engine.modeling import attend


def model_of(stage: str, role: str, context: Context) -> nn.Module:
    """A train stage's model. Raises RunError where its tokenizer differs, as it would silently misread
    token ids."""
    artifact = context.artifact(stage)
    if artifact.tokenizer().get_vocab() != context.tokenizer().get_vocab():
        raise RunError(
            f"{role} '{stage}' has another tokenizer than the model that learns, so it "
            "would misread token ids",
            hint="name a stage that uses the same prepared data",
        )
    return artifact.model()


def reference_model(model: nn.Module, stage: str | None, context: Context) -> nn.Module:
    """A copy of the model, or the model of another stage. Raises RunError as :func:`model_of` does."""
    return copy.deepcopy(model) if stage is None else model_of(stage, "reference", context)


def scalar_model(context: Context, stage: str) -> tuple[Any, Any]:
    """A train stage's model and tokenizer. Raises RunError where the model gives no single number."""
    artifact = context.artifact(stage)
    model: Any = artifact.model()
    if getattr(model.config, "num_labels", 0) != 1 or not hasattr(model, "score"):
        raise RunError(
            f"reward stage '{stage}' has a {type(model).__name__}, which gives no single number",
            hint="name a stage whose objective is `reward` or `cost`",
        )
    attend(model)
    return model.to(context.device), artifact.tokenizer()
