"""TRL's PPOTrainer, which tells what it does and prints nothing."""

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

from engine_rlhf.trl_config import TrlPPO

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # that it is experimental; and its dependencies' deprecations
    from trl.experimental.ppo import PPOConfig, PPOTrainer

PAD = -1
"""Told to TRL as the padding token. It masks padding wherever it hands ids to a model, and would take
a token of the vocabulary that an answer has for the answer's end; EOS, for less than its end."""


@dataclass(frozen=True, slots=True)
class Ids:
    """All that TRL asks of a tokenizer."""

    eos_token_id: int
    pad_token_id: int = PAD


class _Trainer(PPOTrainer):  # type: ignore[misc]
    """Gives each round's metrics to ``report``, in place of callbacks that would print them."""

    def __init__(self, *, report: Callable[[Mapping[str, float]], None], **kwargs: Any) -> None:
        self._report = report
        super().__init__(**kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """See :class:`transformers.Trainer`."""
        self._report(logs)


def train(report: Callable[[Mapping[str, float]], None], **kwargs: Any) -> None:
    """TRL's loop. Its prints, and those of what it imports, go to stderr: stdout is the engine's."""
    stdout = sys.stdout

    def tell(metrics: Mapping[str, float]) -> None:
        with redirect_stdout(stdout):
            report(metrics)

    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore", FutureWarning)  # names that transformers is to drop
        warnings.filterwarnings("ignore", r"var\(\)")  # the ratio's, over the one step of a round
        _Trainer(report=tell, **kwargs).train()


def arguments(
    config: TrlPPO, *, folder: str, seed: int, episodes: int, total: int, on_cpu: bool
) -> PPOConfig:
    """The configuration as TRL has it, for so many ``episodes`` a round on one process, and in all.

    All in one forward pass: with ``-1`` for padding answers of several passes could not be joined, and
    micro-batches are not to be had (see :class:`TrlPPO`).
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
    """Prompts of ids, padded on the left."""
    width = max(len(row["input_ids"]) for row in rows)
    ids = np.full((len(rows), width), PAD)
    for b, row in enumerate(rows):
        ids[b, width - len(row["input_ids"]) :] = row["input_ids"]
    return {"input_ids": torch.from_numpy(ids)}
