"""Whether a model learns with dropout: one field, which most objectives of this plugin share."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from engine import ObjectiveConfig


class DropoutConfig(ObjectiveConfig):
    """Base of objectives whose models learn without dropout unless it is asked for.

    They compare probabilities or values that one model gives with others: under dropout two passes
    of the same weights differ, which a ratio or a margin takes for learning.
    """

    dropout: bool = Field(
        False,
        description="Train with the dropout that the model (or critic) and its adapter have; without "
        "it all of it is off, as in most trainers of TRL.",
    )

    def check_train(self, train: Any, processes: int) -> str | None:
        """See :class:`engine.ObjectiveConfig`: an adapter's dropout would not act."""
        rate = getattr(getattr(train.model, "adapter", None), "dropout", 0)
        if rate and not self.dropout:
            return (
                f"model.adapter.dropout {rate} does not act where objective.dropout is false; leave it "
                "out, or set objective.dropout: true"
            )
        return super().check_train(train, processes)
