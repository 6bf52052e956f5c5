"""TRL's PPO as the engine drives it, on models that are handed to it."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from engine_lm.optimizers import build_adamw
from engine_lm.training_config import AdamW, Constant
from engine_rlhf.trl_ppo.objective import build
from torch import nn
from transformers.modeling_outputs import BaseModelOutput

from engine.contracts.amounts import Amount
from engine.contracts.batch import Example
from engine.contracts.objective import Job


class _OneHot(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self._width = width

    def forward(self, input_ids: torch.Tensor, **_: Any) -> BaseModelOutput:
        hidden = nn.functional.one_hot(input_ids, self._width).float()
        return BaseModelOutput(last_hidden_state=hidden, hidden_states=(hidden,))


class TableModel(nn.Module):
    """A reward model that gives each token its value in a table, with transformers' interface."""

    base_model_prefix = "model"

    def __init__(self, values: torch.Tensor) -> None:
        super().__init__()
        self.config = SimpleNamespace(num_labels=1)
        self.model = _OneHot(len(values))
        self.score = nn.Linear(len(values), 1, bias=False)
        self.score.weight.data = values[None].clone()

    @property
    def base_model(self) -> nn.Module:
        """As transformers calls it."""
        return self.model

    def set_attn_implementation(self, name: str) -> None:
        """It has no attention."""


@dataclass
class TrlContext:
    """What the objective's factory asks: artefacts by name."""

    models: dict[str, Any]
    words: Any
    seed: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def artifact(self, stage: str) -> Any:
        """A model that was handed over, and the one tokenizer."""
        return SimpleNamespace(model=lambda: self.models[stage], tokenizer=self.tokenizer)

    def tokenizer(self) -> Any:
        """The policy's, which all have."""
        return self.words


def train(
    config: Any,
    policy: nn.Module,
    models: dict[str, Any],
    prompts: list[list[int]],
    words: Any,
    folder: Path,
    *,
    rounds: int,
    episodes: int,
    lr: float,
    seed: int = 0,
    betas: tuple[float, float] = (0.9, 0.95),
    decay: bool = False,
) -> tuple[Any, list[dict[str, float]]]:
    """The objective when it has trained the policy, and what it logged."""
    objective = build(config, TrlContext(models, words, seed))
    steps, logged = rounds * config.passes * config.mini_batches, []
    job = Job(
        model=policy,
        tokenizer=words,
        examples=[Example(len(ids), {"input_ids": ids}) for ids in prompts],
        examples_per_step=episodes,
        budget=Amount(steps, "steps"),
        lr=lr,
        optimizer=build_adamw(AdamW(lr=lr, weight_decay=0, betas=betas, schedule=Constant()), None),
        schedule=lambda at: 1 - at.step / steps if decay else 1.0,
        seed=seed,
        folder=str(folder),
        log=lambda at, figures: logged.append({"step": at.step, "tokens": at.tokens, **figures}),
    )
    gc.collect()
    gc.freeze()  # TRL collects several times a round: a third of a second each, of all that is here
    try:
        objective.train(job)
    finally:
        gc.unfreeze()
    return objective, logged
