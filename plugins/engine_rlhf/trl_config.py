"""Configuration of TRL's PPO, and what of a train stage it cannot do."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any

from pydantic import Field

from engine import Beside, StageRef
from engine_rlhf.config import ActorCritic

_LEAST_WHITENED = 8
"""Episodes of a mini-batch on one process, from which TRL whitens rewards."""
_UNUSED = {
    "checkpoint": "it writes no checkpoints: a stage that is killed begins anew",
    "evaluate": "it does not evaluate; name the model in an evaluate stage",
    "callbacks": "its loop asks none",
    "ema": "it keeps no average",
    "activation_checkpointing": "it ignores gradient checkpointing",
    "offload_activations": "it keeps activations where they are",
    "check_replicas": "it compares no copies",
}
"""Fields of a train stage that would change nothing, and why."""


class TrlPPO(ActorCritic):
    """TRL's own PPOTrainer, for comparison: one reward model, one process or plain data parallelism,
    fp32. It cannot be resumed."""

    reward: Annotated[str, StageRef("train", head="scalar")] = Field(
        description="Reward stage whose model scores the answers, with the policy's tokenizer."
    )

    def warnings(self) -> Sequence[str]:
        """See :class:`engine.ObjectiveConfig`."""
        return (
            "trl-ppo: TRL's loop clips no gradient, keeps one learning rate for a round, and cannot be "
            "resumed: a stage that is killed begins anew",
        )

    def beside(self) -> Beside:
        """See :class:`engine.ObjectiveConfig`: the reference also where the penalty is 0."""
        return Beside(frozen=(self.reference,), asked=(self.reward,), trained=(self.value,))

    def check_train(self, train: Any, processes: int) -> str | None:
        """See :class:`engine.ObjectiveConfig`."""
        return "; ".join(self._refused(train, processes)) or None

    def _refused(self, train: Any, processes: int) -> Iterator[str]:
        if wrong := super().check_train(train, processes):
            yield wrong
        for name, why in _UNUSED.items():
            if name in train.model_fields_set and getattr(train, name):
                yield f"{name}: {why}"
        if "clip" in train.model_fields_set and train.clip is not None:
            yield f"clip {train.clip}: TRL's PPO ignores max_grad_norm; leave it out"
        if train.precision not in ("auto", "fp32"):
            yield f"precision {train.precision}: it computes in fp32 whatever it is told; use fp32"
        if train.compile is True:
            yield "compile: its loop compiles nothing"
        if getattr(train.model, "adapter", None) is not None:
            yield "model.adapter: it trains whole models here"
        if train.strategy.type not in ("single", "ddp"):
            yield f"strategy '{train.strategy.type}': it knows only single and ddp"
        if train.budget.unit not in ("steps", "epochs"):
            yield f"budget '{train.budget}': it counts episodes; use steps or epochs"
        yield from self._refused_batches(train.batch, processes)

    def _refused_batches(self, batch: Any, processes: int) -> Iterator[str]:
        if batch.ramp is not None:
            yield "batch.ramp: its batch cannot grow"
        if batch.micro_tokens is not None:
            yield (
                "batch.micro_tokens: its gradient accumulation takes mini-batches for one, and a step "
                "too often at the end of an epoch; leave it out"
            )
        if batch.examples is None:
            yield "batch.tokens: it counts episodes; use batch.examples"
            return
        parts = self.mini_batches * processes
        if batch.examples % parts:
            yield (
                f"batch.examples {batch.examples} cannot be shared alike by {self.mini_batches} "
                f"mini-batches and {processes} processes"
            )
        elif self.whiten_rewards and batch.examples // parts < _LEAST_WHITENED:
            yield (
                f"whiten_rewards: TRL wants {_LEAST_WHITENED} episodes or more in a mini-batch on "
                f"each process, which has {batch.examples // parts}"
            )
