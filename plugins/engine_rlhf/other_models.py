"""Models of other stages that read the ids of the model that learns."""

from __future__ import annotations

import copy

from torch import nn

from engine import Context, RunError


def model_of(stage: str, role: str, context: Context) -> nn.Module:
    """A train stage's model. Raises RunError where its tokenizer is another: it would take ids for
    other tokens, without a word."""
    artifact = context.artifact(stage)
    if artifact.tokenizer().get_vocab() != context.tokenizer().get_vocab():
        raise RunError(
            f"{role} '{stage}' has another tokenizer than the model that learns, whose ids it would "
            "read",
            mend="name a stage that stands on the same prepared data",
        )
    return artifact.model()


def reference_model(model: nn.Module, stage: str | None, context: Context) -> nn.Module:
    """The model as it is now, or that of another stage. Raises RunError as :func:`model_of` does."""
    return copy.deepcopy(model) if stage is None else model_of(stage, "reference", context)
