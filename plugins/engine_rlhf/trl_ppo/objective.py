"""PPO by TRL's own loop (``trl.experimental.ppo``; 1.12 is the last release that has it).

Differences from ``ppo``, besides what :class:`engine_rlhf.config.trl_ppo.TrlPPO` refuses:

- The reward model reads the policy's token ids, so a truncated answer is scored without EOS.
- An answer that ended early has the extra last step, which gets the reward, only if its round holds a
  longer answer.
- The learning rate changes once a round.
- The budget is rounded up to whole rounds.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from engine import (
    Context,
    Example,
    ExternalLoop,
    Job,
    Progress,
    Record,
    RunError,
)
from engine.modeling import attend, backbone, end_of_turn, with_scalar_head
from engine_rlhf.config.trl_ppo import TrlPPO
from engine_rlhf.online.prompts import prompt_example
from engine_rlhf.stage_models import model_of, reference_model, scalar_model

_OURS = {
    "loss/policy_avg": "loss/policy",
    "objective/scores": "reward",
    "objective/kl": "kl",
    "objective/entropy": "entropy",
    "eps": "episodes_per_second",
}
"""TRL's names of figures that `ppo` also has, to `ppo`'s names; other figures keep TRL's names."""


class TrlPPOObjective(ExternalLoop):
    """Trains a policy with TRL's PPOTrainer."""

    def __init__(self, config: TrlPPO, context: Context) -> None:
        self._config, self._context = config, context

    def encode(self, record: Record, tokenizer: Any, length: int) -> Iterator[Example | str]:
        """A prompt that leaves room for an answer."""
        return prompt_example(record, tokenizer, length - self._config.answer_tokens)

    def others(self) -> Mapping[str, nn.Module]:
        """The critic."""
        return {"value": self._value}

    def train(self, job: Job) -> None:
        """See :class:`engine.ExternalLoop`. Raises RunError where a model's tokenizer differs."""
        import transformers

        from engine_rlhf.trl_ppo import trainer

        config, context, policy = self._config, self._context, job.model
        reward: Any = self._reward(job.tokenizer)
        reference = reference_model(policy, config.reference, context)
        start = policy if config.value is None else model_of(config.value, "value", context)
        self._value = with_scalar_head(copy.deepcopy(start), context.seed).to(context.device)
        self._value.train().requires_grad_(True)
        steps, tokens = config.passes * config.mini_batches, 0

        def count(module: nn.Module, args: Any, kwargs: Mapping[str, Any]) -> None:
            nonlocal tokens  # each episode is scored once, and trained on in every epoch
            tokens += config.passes * int(kwargs["attention_mask"].sum())

        def progress(rounds: int) -> Progress:
            epochs = rounds * job.examples_per_step / len(job.examples)
            return Progress(rounds * steps, tokens, epochs, 0.0, job.budget)

        def report(metrics: Mapping[str, float]) -> None:
            figures = {_OURS.get(name, name): value for name, value in metrics.items()}
            figures["loss/value"] = config.value_weight * figures.pop("loss/value_avg")
            loss = figures["loss/policy"] + figures["loss/value"]
            if steps == 1:
                del figures["val/ratio_var"]  # not a number: the variance of one ratio
            rounds = round(figures.pop("episode") / job.examples_per_step)
            job.log(progress(rounds), {"loss": loss, **figures})

        backbone(reward).register_forward_pre_hook(count, with_kwargs=True)
        trained = [*policy.named_parameters(), *self._value.named_parameters()]
        optimizer = job.optimizer([(n, p) for n, p in trained if p.requires_grad])
        for group in optimizer.param_groups:
            group["lr"] = job.lr * group["lr_scale"]
        rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda n: job.schedule(progress(n)))
        transformers.set_seed(job.seed)
        end = end_of_turn(job.tokenizer) or job.tokenizer.eos_token
        eos = job.tokenizer.convert_tokens_to_ids(end)
        for other in (reference, self._value):
            attend(other)  # rows are padded on the left
        with _generating(policy, eos):
            trainer.train(
                report,
                args=trainer.arguments(
                    config,
                    folder=job.folder,
                    seed=job.seed,
                    episodes=job.examples_per_step // context.world_size,
                    total=self._rounds(job) * job.examples_per_step,
                    on_cpu=context.device.type == "cpu",
                ),
                processing_class=trainer.Ids(eos),
                model=policy,
                ref_model=reference,
                reward_model=reward,
                value_model=self._value,
                train_dataset=[{"input_ids": e.fields["input_ids"]} for e in job.examples],
                data_collator=trainer.collate,
                optimizers=(optimizer, rate),
            )

    def _rounds(self, job: Job) -> int:
        """Rounds in the budget, rounded up."""
        rounds = job.budget.value / (self._config.passes * self._config.mini_batches)
        if job.budget.unit == "epochs":
            rounds = job.budget.value * len(job.examples) / job.examples_per_step
        return math.ceil(rounds)

    def _reward(self, tokenizer: Any) -> Any:
        """The reward model, whose head is rescaled to give normalised values."""
        stage = self._config.reward
        model, own = scalar_model(self._context, stage)
        if own.get_vocab() != tokenizer.get_vocab():
            raise RunError(
                f"trl-ppo: reward stage '{stage}' has another tokenizer than the policy, so it would "
                "misread token ids",
                hint="train it from the same model; or use `ppo`, whose rewards read text",
            )
        mean, std = (
            getattr(model.config, f"value_{name}", n) for name, n in (("mean", 0), ("std", 1))
        )
        weight = model.score.weight.detach()
        model.score = nn.Linear(weight.shape[1], 1).to(weight.device)
        model.score.weight.data = weight / std
        model.score.bias.data.fill_(-mean / std)
        return model


@contextmanager
def _generating(policy: Any, eos: int) -> Iterator[None]:
    """Pads generated answers with EOS; restores the policy's generation settings afterwards."""
    attention, generation = policy.config._attn_implementation, policy.generation_config
    attend(policy)
    policy.generation_config = copy.deepcopy(generation)
    policy.generation_config.pad_token_id = eos
    try:
        yield
    finally:
        attend(policy, attention)
        policy.generation_config = generation


def build(config: TrlPPO, context: Context) -> TrlPPOObjective:
    """Builds the objective."""
    return TrlPPOObjective(config, context)
