"""What a spec may set."""

from __future__ import annotations

from typing import Annotated

from engine import Number, OptimizerConfig
from pydantic import Field

Beta = Annotated[Number, Field(ge=0, lt=1)]


class Lion(OptimizerConfig):
    """Lion (Chen et al. 2023, "Symbolic Discovery of Optimization Algorithms", algorithm 2).

    Every weight moves by the whole rate at every step, so the rate wants to be 3 to 10 times
    smaller than AdamW's and the decay as many times larger (section 5): the defaults are so.
    """

    lr: Number = Field(1e-4, gt=0, description="Peak learning rate: what each weight moves by.")
    weight_decay: Number = Field(
        1.0, ge=0, description="Decoupled decay of matrices, per unit of lr."
    )
    betas: tuple[Beta, Beta] = Field(
        (0.9, 0.99), description="Share of the momentum in the update, and in the next momentum."
    )

    def state_floats(self, *, hidden: bool) -> float:
        """The momentum."""
        return 1
