"""Configurations of offline objectives: learning from preferences, labels or a teacher."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field, model_validator

from engine import BatchWork, Beside, Number, StageRef
from engine_rlhf.config.dropout import DropoutConfig


class Reward(DropoutConfig):
    """Reward model: gives the preferred answer the higher value (Bradley & Terry 1952)."""

    takes: ClassVar = frozenset({"preference"})
    head: ClassVar[Literal["lm", "scalar"]] = "scalar"

    center: Number = Field(
        0.0,
        ge=0,
        description="Weight of the penalty on the squared sum of a pair's values, which keeps values "
        "near 0.",
    )
    margin: str | None = Field(
        None,
        description="Column of the records that holds the least difference between a pair's values.",
    )

    def batch_work(self) -> BatchWork:
        """See :class:`engine.ObjectiveConfig`: two answers of each row."""
        return BatchWork(packed=False, texts=2, labels_only=True)


class Cost(DropoutConfig):
    """Cost model: gives the more harmful answer the higher value, and harmful answers values above 0.

    `chosen` is the safer answer; a record's safety labels, if any, say which answers are harmful.
    """

    takes: ClassVar = frozenset({"preference"})
    head: ClassVar[Literal["lm", "scalar"]] = "scalar"

    safety: Number = Field(
        1.0, gt=0, description="Weight of the safety labels' loss; the preferences' has weight 1."
    )

    def batch_work(self) -> BatchWork:
        """See :class:`engine.ObjectiveConfig`: two answers of each row."""
        return BatchWork(packed=False, texts=2, labels_only=True)


class DPO(DropoutConfig):
    """Direct preference optimization (Rafailov et al. 2023) and variants."""

    takes: ClassVar = frozenset({"preference"})

    loss: Literal["sigmoid", "ipo", "sigmoid-norm"] = Field(
        "sigmoid",
        description="Loss of a pair: `sigmoid` is DPO's; `ipo` is IPO's squared loss (Azar et al. "
        "2023) of log-ratios per token; `sigmoid-norm` is DPO's of log-ratios per token, which does "
        "not favour length.",
    )
    beta: Number = Field(
        0.1, gt=0, description="How strongly the policy is held near the reference; τ in IPO."
    )
    label_smoothing: Number = Field(
        0.0, ge=0, lt=0.5, description="Share of the preferences that is assumed to be wrong."
    )
    reference: Annotated[str, StageRef("train", head="lm")] | None = Field(
        None,
        description="Train stage whose model is the reference; without it, the starting model.",
    )

    def beside(self) -> Beside:
        """See :class:`engine.ObjectiveConfig`: the reference."""
        return Beside(frozen=(self.reference,))

    def batch_work(self) -> BatchWork:
        """See :class:`engine.ObjectiveConfig`: two answers of each row."""
        return BatchWork(packed=False, texts=2, labels_only=True)

    @model_validator(mode="after")
    def _smooths_something(self) -> DPO:
        if self.loss == "ipo" and self.label_smoothing:
            raise ValueError("label_smoothing has no effect on ipo; leave it out")
        return self


class KTO(DropoutConfig):
    """Kahneman-Tversky optimization (Ethayarajh et al. 2024), from answers labelled good or bad.

    A preference counts as two: `chosen` is good, `rejected` is bad.
    """

    takes: ClassVar = frozenset({"labelled", "preference"})

    beta: Number = Field(
        0.1, gt=0, description="How strongly the policy is held near the reference (risk aversion)."
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

    def batch_work(self) -> BatchWork:
        """See :class:`engine.ObjectiveConfig`: both models also read a mismatched answer."""
        return BatchWork(packed=False, reads=(1, 2), labels_only=True)


class Distill(DropoutConfig):
    """Distillation: learns a teacher's next-token distributions (Hinton et al. 2015)."""

    takes: ClassVar = frozenset({"completion", "text"})

    teacher: Annotated[str, StageRef("train", head="lm")] = Field(
        description="Train stage whose model is the teacher, with the same tokenizer."
    )
    divergence: Literal["forward", "reverse", "generalised"] = Field(
        "forward",
        description="`forward` is KL(teacher ‖ student), which covers all of the teacher's modes; "
        "`reverse` is KL(student ‖ teacher), which seeks single modes; `generalised` is a "
        "Jensen-Shannon divergence between the two (Agarwal et al. 2023, equation 1).",
    )
    beta: Number | None = Field(
        None,
        gt=0,
        lt=1,
        description="Only for `generalised`: the teacher's share of the mixture; 0.5 by default.",
    )
    temperature: Number = Field(1.0, gt=0, description="Divides the logits of teacher and student.")

    @property
    def share(self) -> float:
        """β, the teacher's share of the mixture: 0 for forward, 1 for reverse."""
        if self.divergence == "generalised":
            return 0.5 if self.beta is None else self.beta
        return 0.0 if self.divergence == "forward" else 1.0

    @model_validator(mode="after")
    def _mixes_something(self) -> Distill:
        if self.divergence != "generalised" and self.beta is not None:
            raise ValueError(
                f"beta has no effect on the {self.divergence} divergence; leave it out, or set "
                "divergence: generalised"
            )
        return self

    def beside(self) -> Beside:
        """See :class:`engine.ObjectiveConfig`: the teacher."""
        return Beside(frozen=(self.teacher,))

    def batch_work(self) -> BatchWork:
        """See :class:`engine.ObjectiveConfig`: each row is as long as its example."""
        return BatchWork(packed=False, labels_only=True)

    def check_train(self, train: Any, processes: int) -> str | None:
        """See :class:`engine.ObjectiveConfig`: the divergence needs the logits of all tokens."""
        tensor = train.strategy.layout(processes).tensor
        if tensor > 1:
            return f"'distill' needs the whole output head, but tensor: {tensor} shards it; use 1"
        return super().check_train(train, processes)
