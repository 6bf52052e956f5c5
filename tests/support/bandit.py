"""A bandit as a language model: a prompt of two tokens, answers of one, whose best policy is known.

For E[r] − β·KL(π‖π_ref) it is π* ∝ π_ref·exp(r/β).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from engine_lm.optimizers import build_adamw
from engine_lm.training_config import AdamW, Constant
from engine_parallel.replicated import Replicated
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.contracts.amounts import Amount
from engine.contracts.records import Prompt
from engine.data.examples import TrainingData
from engine.data.mixture import Mixture, MixtureSource
from engine.event_log import EventLog, SilentDisplay
from engine.processes.process import Process
from engine.storage.checkpoints import Checkpoints
from engine.testing import StandAloneContext
from engine.training.assembly import TrainingParts, assemble_training
from engine.training.loop_plan import Plan, Ramp

TOKENS = ["<eos>", "<pad>", "q", "a", "b", "c", "d", "e"]
REWARDS = torch.tensor([-0.5, -0.5, 0.2, 1.0, 0.4, -0.3, 0.6, -1.0])
COSTS = torch.tensor([0.3, 0.3, -0.2, 1.0, -0.5, 0.2, 0.4, -0.8])
BETA = 0.5


def tokenizer() -> Any:
    """Words that are tokens."""
    words = Tokenizer(models.WordLevel({t: i for i, t in enumerate(TOKENS)}, unk_token="<pad>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(
        tokenizer_object=words, eos_token="<eos>", pad_token="<pad>", bos_token="<eos>"
    )


def policy(seed: int = 0) -> Any:
    """A tiny model whose first distribution is far from uniform."""
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=len(TOKENS),
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=16,
        bos_token_id=0,
        eos_token_id=0,
        pad_token_id=1,
        initializer_range=0.3,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).train()


@torch.no_grad()
def distribution(model: Any) -> torch.Tensor:
    """P of each answer."""
    logits: torch.Tensor = model(input_ids=torch.tensor([[2, 2]])).logits[0, -1]
    return logits.double().softmax(-1)


def best(reference: torch.Tensor, reward: torch.Tensor, beta: float = BETA) -> torch.Tensor:
    """π*."""
    return (reference.log() + reward.double() / beta).softmax(-1)


def apart(one: torch.Tensor, other: torch.Tensor) -> float:
    """Total variation."""
    return 0.5 * float((one - other).abs().sum())


class Table:
    """A reward by the answer's token, as text."""

    def __init__(self, values: torch.Tensor, name: str) -> None:
        self._values, self._name = values, name

    def score(self, prompts: Any, completions: Any, rows: Any) -> dict[str, torch.Tensor]:
        """See :class:`engine.Reward`; special tokens are the empty text, words follow a space."""
        indices = [TOKENS.index(text.strip()) if text else 0 for text in completions]
        return {self._name: self._values[indices]}


@dataclass(frozen=True)
class BanditContext(StandAloneContext):
    """What the objective's factory asks."""

    scores: dict[str, Any] = field(default_factory=dict)
    """Rewards by name."""

    def tokenizer(self) -> Any:
        """The bandit's."""
        return tokenizer()

    def component(self, kind: str, config: Any) -> Any:
        """The reward of that name."""
        return self.scores[config.name] if kind == "reward" else super().component(kind, config)


def play(
    build: Any,
    config: Any,
    folder: Path,
    *,
    seed: int = 0,
    prompts: int,
    steps: int,
    lr: float,
    rewards: dict[str, Any],
    model: Any = None,
    decay: bool = True,
    betas: tuple[float, float] = (0.9, 0.95),
    on_step: Any = lambda event: None,
) -> tuple[nn.Module, Any]:
    """The policy after so many optimizer steps, and the objective with its state."""
    context: Any = BanditContext(seed=seed, scores=rewards)
    model = policy() if model is None else model
    objective = build(config, context)
    encoded = objective.encode(Prompt(id="p", source="s", prompt="q q"), tokenizer(), 8)
    adamw = AdamW(lr=lr, weight_decay=0, betas=betas, schedule=Constant())
    parts = TrainingParts(
        plan=Plan(
            stage="bandit",
            seed=seed,
            sequence=8,
            micro_rows=4096,
            ramp=Ramp(prompts * 8),
            budget=Amount(steps, "steps"),
            lr=lr,
            clip=None,
            checkpoint_every=Amount(10**9, "steps"),
        ),
        context=context,
        process=Process(),
        log=EventLog(None, SilentDisplay()),
        folder=folder,
        data=TrainingData(
            Mixture([MixtureSource("bandit", prompts)], seed), [[next(iter(encoded))] * prompts]
        ),
        model=model,
        objective=objective,
        strategy=objective.strategy(lambda: Replicated(context), lambda: model, [], "fp32"),
        optimizer=build_adamw(adamw, context),
        schedule=lambda progress: max(0.0, 1 - progress.step / steps) if decay else 1.0,
        checkpoints=Checkpoints(folder / "checkpoints", background=False),
        frozen={n: m.eval() for n, m in objective.freeze(model).items()},
        on_step=on_step,
    )
    assert assemble_training(parts).run().status == "done"
    return model, objective
