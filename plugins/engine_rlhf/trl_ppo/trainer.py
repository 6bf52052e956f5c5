"""TRL's PPOTrainer, changed to report its figures instead of printing them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from engine_rlhf.config.trl_ppo import TrlPPO

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that PPO is experimental; deprecations in dependencies
    from trl.experimental.ppo import PPOConfig, PPOTrainer

PAD = -1
"""Padding id for TRL, which masks it wherever ids go to a model. It is outside the vocabulary, as TRL
ends an answer at its first padding id; with EOS as padding, it would drop the answer's own EOS."""


@dataclass(frozen=True, slots=True)
class Ids:
    """The two attributes of a tokenizer that TRL reads."""

    eos_token_id: int
    pad_token_id: int = PAD


class _Trainer(PPOTrainer):
    """Passes each round's metrics to ``report`` instead of callbacks that would print them."""

    def __init__(self, *, report: Callable[[Mapping[str, float]], None], **kwargs: Any) -> None:
        self._report = report
        super().__init__(**kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """See :class:`transformers.Trainer`."""
        self._report(logs)


def train(report: Callable[[Mapping[str, float]], None], **kwargs: Any) -> None:
    """Runs TRL's loop. Its output goes to stderr, as stdout belongs to the engine."""
    stdout = sys.stdout

    def tell(metrics: Mapping[str, float]) -> None:
        with redirect_stdout(stdout):
            report(metrics)

    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore", FutureWarning)  # names that transformers will drop
        warnings.filterwarnings("ignore", r"var\(\)")  # of a single ratio, if a round has one step
        trainer: PPOTrainer = _Trainer(report=tell, **kwargs)
        trainer.train()


def arguments(
    config: TrlPPO, *, folder: str, seed: int, episodes: int, total: int, on_cpu: bool
) -> PPOConfig:
    """TRL's configuration for ``episodes`` per round on each process, and ``total`` in all.

    All episodes of a round go through one forward pass, since TRL cannot join the answers of several
    with ``-1`` as padding, and micro-batches are refused (see :class:`TrlPPO`).
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # TRL sets a field by its old name
        return PPOConfig(
            output_dir=folder,
            seed=seed,
            use_cpu=on_cpu,
            bf16=False,
            gradient_checkpointing=False,
            disable_tqdm=True,
            report_to=[],
            save_strategy="no",
            num_sample_generations=0,
            total_episodes=total,
            per_device_train_batch_size=episodes,
            local_rollout_forward_batch_size=episodes,
            stop_token="eos",
            num_mini_batches=config.mini_batches,
            num_ppo_epochs=config.passes,
            response_length=config.answer_tokens,
            temperature=config.temperature,
            missing_eos_penalty=config.missing_eos_penalty,
            whiten_rewards=config.whiten_rewards,
            kl_coef=config.kl,
            kl_estimator=config.kl_estimator,
            cliprange=config.clip,
            vf_coef=config.value_weight,
            cliprange_value=config.value_clip,
            gamma=config.gamma,
            lam=config.gae_lambda,
        )


def collate(rows: Sequence[Mapping[str, Any]]) -> dict[str, Tensor]:
    """Token ids of prompts, padded on the left."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = np.full((len(rows), width), PAD)
    for row_ids, row in zip(ids, rows, strict=True):
        row_ids[width - len(row["input_ids"]) :] = row["input_ids"]
    return {"input_ids": torch.from_numpy(ids)}
