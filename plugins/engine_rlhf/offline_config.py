"""Configurations of objectives that learn from records: preferences, judgements, a teacher."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from engine import Beside, Count, EvaluatorConfig, Number, StageRef
from engine_rlhf.dropout_config import DropoutConfig


class Reward(DropoutConfig):
    """A model that gives the preferred answer the higher value (Bradley & Terry 1952)."""

    takes: ClassVar = frozenset({"preference"})
    head: ClassVar[Literal["lm", "scalar"]] = "scalar"

    center: Number = Field(
        0.0,
        ge=0,
        description="Weight of the squared sum of a pair's values, which keeps them near 0.",
    )
    margin: str | None = Field(
        None,
        description="Column of the records with the least difference that a pair's values should have.",
    )


class Cost(DropoutConfig):
    """A model that gives the more harmful answer the higher value, above 0 where it is harmful.

    `chosen` is the safer answer; where records have safety labels, they say what is harmful.
    """

    takes: ClassVar = frozenset({"preference"})
    head: ClassVar[Literal["lm", "scalar"]] = "scalar"

    safety: Number = Field(
        1.0, gt=0, description="Weight of the safety labels beside the preferences."
    )


class DPO(DropoutConfig):
    """Direct preference optimization (Rafailov et al. 2023), and losses like it."""

    takes: ClassVar = frozenset({"preference"})

    loss: Literal["sigmoid", "ipo", "sigmoid-norm"] = Field(
        "sigmoid",
        description="Loss of a pair: DPO's; IPO's square (Azar et al. 2023) of log-ratios per token; "
        "or DPO's of log-ratios per token, which does not favour length.",
    )
    beta: Number = Field(
        0.1, gt=0, description="How much the policy is held near the reference; of IPO, τ."
    )
    label_smoothing: Number = Field(
        0.0, ge=0, lt=0.5, description="Share of the preferences that are taken for wrong."
    )
    reference: Annotated[str, StageRef("train", head="lm")] | None = Field(
        None,
        description="Train stage whose model is the reference; without it, the starting model.",
    )

    def beside(self) -> Beside:
        """See :class:`engine.ObjectiveConfig`: the reference."""
        return Beside(frozen=(self.reference,))

    @model_validator(mode="after")
    def _smooths_something(self) -> DPO:
        if self.loss == "ipo" and self.label_smoothing:
            raise ValueError("label_smoothing is of the losses with a sigmoid: ipo has none")
        return self


class KTO(DropoutConfig):
    """Kahneman-Tversky optimization (Ethayarajh et al. 2024), from answers that are good or bad.

    A preference is one of each.
    """

    takes: ClassVar = frozenset({"labelled", "preference"})

    beta: Number = Field(
        0.1, gt=0, description="How much the policy is held near the reference: risk aversion."
    )
    desirable_weight: Number = Field(1.0, gt=0, description="Weight of good answers.")
    undesirable_weight: Number = Field(1.0, gt=0, description="Weight of bad answers.")
    reference: Annotated[str, StageRef("train", head="lm")] | None = Field(
        None,
        description="Train stage whose model is the reference; without it, the starting model.",
    )

    def beside(self) -> Beside:
        """See :class:`engine.ObjectiveConfig`: the reference."""
        return Beside(frozen=(self.reference,))


class Distill(DropoutConfig):
    """Learns a teacher's distribution of every next token (Hinton et al. 2015)."""

    takes: ClassVar = frozenset({"completion", "text"})

    teacher: Annotated[str, StageRef("train", head="lm")] = Field(
        description="Train stage whose model is the teacher, with the same tokenizer."
    )
    divergence: Literal["forward", "reverse", "generalised"] = Field(
        "forward",
        description="KL(teacher ‖ student), which covers all that the teacher would say; KL(student ‖ "
        "teacher), which seeks its modes; or the Jensen-Shannon divergence between them (Agarwal et "
        "al. 2023, equation 1).",
    )
    beta: Number | None = Field(
        None,
        gt=0,
        lt=1,
        description="Of generalised: the teacher's share of the mixture; without it, 0.5.",
    )
    temperature: Number = Field(1.0, gt=0, description="Divides the logits of both.")

    @property
    def share(self) -> float:
        """β as it is meant: 0 for forward, 1 for reverse."""
        if self.divergence == "generalised":
            return 0.5 if self.beta is None else self.beta
        return 0.0 if self.divergence == "forward" else 1.0

    @model_validator(mode="after")
    def _mixes_something(self) -> Distill:
        if self.divergence != "generalised" and self.beta is not None:
            raise ValueError(f"beta is of the generalised divergence: {self.divergence} has none")
        return self

    def beside(self) -> Beside:
        """See :class:`engine.ObjectiveConfig`: the teacher."""
        return Beside(frozen=(self.teacher,))

    def check_train(self, train: Any, processes: int) -> str | None:
        """The divergence needs whole distributions."""
        tensor = train.strategy.layout(processes).tensor
        if tensor > 1:
            return (
                f"'distill' needs the head whole, but tensor: {tensor} cuts it; use other degrees"
            )
        return super().check_train(train, processes)


class PreferenceAccuracy(EvaluatorConfig):
    """How often a reward or cost model agrees with held-out preferences, and how sure it is of it."""

    head: ClassVar[Literal["lm", "scalar"]] = "scalar"
    held_out: ClassVar = True

    values: Literal["reward", "cost"] = Field(
        "reward", description="What the model gives: more to the chosen answer, or less."
    )
    bins: Count = Field(10, description="Bins of probability in the calibration error.")
