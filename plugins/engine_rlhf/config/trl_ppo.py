"""Configuration of TRL's PPO, and the fields of a train stage that it does not support."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, ClassVar

from pydantic import Field

from engine import Beside, StageRef
from engine_rlhf.config.online import ActorCritic

_LEAST_WHITENED = 8
"""Fewest episodes of a mini-batch on one process with which TRL can whiten rewards."""
_UNUSED = {
    "checkpoint": "trl-ppo writes no checkpoints; a stage that is killed starts again",
    "evaluate": "trl-ppo does not evaluate; name the model in an evaluate stage",
    "callbacks": "trl-ppo does not run callbacks",
    "ema": "trl-ppo keeps no moving average of the weights",
    "activation_checkpointing": "trl-ppo ignores gradient checkpointing",
    "offload_activations": "trl-ppo does not offload activations",
    "check_replicas": "trl-ppo does not compare replicas",
}
"""Fields of a train stage that would have no effect, and why."""


class TrlPPO(ActorCritic):
    """TRL's own PPOTrainer, for comparison: one reward model, one process or plain data parallelism,
    fp32. It cannot be resumed."""

    external_loop: ClassVar[bool] = True
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
            yield f"precision {train.precision}: trl-ppo always computes in fp32; use fp32"
        if train.compile is True:
            yield "compile: trl-ppo does not compile the model"
        if train.model.trained_adapter is not None:
            yield "model.adapter: trl-ppo only trains whole models here"
        if train.strategy.type not in ("single", "ddp"):
            yield f"strategy '{train.strategy.type}': trl-ppo only supports single and ddp"
        if train.budget.unit not in ("steps", "epochs"):
            yield f"budget '{train.budget}': trl-ppo counts episodes; use steps or epochs"
        yield from self._refused_batches(train.batch, processes)

    def _refused_batches(self, batch: Any, processes: int) -> Iterator[str]:
        if batch.ramp is not None:
            yield "batch.ramp: the batch of trl-ppo cannot grow"
        if batch.micro_tokens is not None:
            yield (
                "batch.micro_tokens: TRL's gradient accumulation merges mini-batches and adds a step "
                "at the end of an epoch; leave it out"
            )
        if batch.examples is None:
            yield "batch.tokens: trl-ppo counts episodes; use batch.examples"
            return
        parts = self.mini_batches * processes
        if batch.examples % parts:
            yield (
                f"batch.examples {batch.examples} does not divide evenly into {self.mini_batches} "
                f"mini-batches on each of {processes} processes"
            )
        elif self.whiten_rewards and batch.examples // parts < _LEAST_WHITENED:
            yield (
                f"whiten_rewards: TRL needs at least {_LEAST_WHITENED} episodes of a mini-batch on "
                f"each process, which has {batch.examples // parts}"
            )
