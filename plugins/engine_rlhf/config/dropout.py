"""The field `dropout`, which most objectives of this plugin share."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from engine import ObjectiveConfig


class DropoutConfig(ObjectiveConfig):
    """Base class of objectives that train without dropout by default.

    They compare probabilities or values of several forward passes. With dropout, two passes of the same
    weights differ, and a ratio or margin would mistake that noise for learning.
    """

    dropout: bool = Field(
        False,
        description="Train with the dropout of the model (or critic) and its adapter; false turns all "
        "dropout off, as most of TRL's trainers do.",
    )

    def check_train(self, train: Any, processes: int) -> str | None:
        """See :class:`engine.ObjectiveConfig`: an adapter's dropout needs ``dropout``."""
        rate = getattr(train.model.trained_adapter, "dropout", 0)
        if rate and not self.dropout:
            return (
                f"model.adapter.dropout {rate} has no effect while objective.dropout is false; leave "
                "it out, or set objective.dropout: true"
            )
        return super().check_train(train, processes)
