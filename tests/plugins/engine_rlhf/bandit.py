"""A bandit as a language model: a prompt of two tokens, answers of one, whose best policy is known.

For E[r] − β·KL(π‖π_ref) it is π* ∝ π_ref·exp(r/β).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from engine_lm.config import AdamW, Constant
from engine_lm.optimizers import build_adamw
from engine_parallel.replicated import Replicated
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from engine.checkpoint import Checkpoints
from engine.component import Setup
from engine.config import Amount
from engine.data.dataset import TrainingData
from engine.data.mixture import Mixture, MixtureSource
from engine.data.records import Prompt
from engine.feed import EpisodeFeed
from engine.joint import Joint
from engine.launch import Process
from engine.log import EventLog, SilentDisplay
from engine.loop import Loop
from engine.plan import Plan, Ramp

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


@dataclass
class BanditContext:
    """What the objective's factory asks."""

    seed: int
    rewards: dict[str, Any] = field(default_factory=dict)
    rank: int = 0
    world_size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def tokenizer(self) -> Any:
        """The bandit's."""
        return tokenizer()

    def component(self, kind: str, config: Any) -> Any:
        """The reward of that name."""
        return self.rewards[config.name]


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
    context: Any = BanditContext(seed, rewards)
    model = policy() if model is None else model
    objective = build(config, context)
    words = tokenizer()
    example = next(iter(objective.encode(Prompt(id="p", source="s", prompt="q q"), words, 8)))
    data = TrainingData(Mixture([MixtureSource("bandit", prompts)], seed), [[example] * prompts])
    frozen = {n: m.eval() for n, m in objective.freeze(model).items()}
    others = {
        n: (Replicated(context), companion) for n, companion in objective.companions(model).items()
    }
    strategy = Joint(Replicated(context), others)
    adamw = AdamW(lr=lr, weight_decay=0, betas=betas, schedule=Constant())
    strategy.prepare(
        Setup(
            build=lambda: model,
            optimizer=build_adamw(adamw, context),
            objective=objective,
            frozen=frozen,
        )
    )
    plan = Plan(
        stage="bandit",
        seed=seed,
        sequence=8,
        micro_rows=4096,
        ramp=Ramp(prompts * 8),
        budget=Amount(steps, "steps"),
        lr=lr,
        clip=None,
        checkpoint_every=Amount(10**9, "steps"),
    )
    feed = EpisodeFeed(
        data,
        objective,
        strategy,
        plan,
        process=Process(),
        tokenizer=words,
        frozen=frozen,
        folder=folder / "rollouts",
        progress=SilentDisplay().progress,
    )

    def schedule(progress: Any) -> float:
        return max(0.0, 1 - progress.step / steps) if decay else 1.0

    checkpoints = Checkpoints(folder / "checkpoints", background=False)
    loop = Loop(
        plan,
        feed=feed,
        strategy=strategy,
        schedule=schedule,
        callbacks=[],
        checkpoints=checkpoints,
        process=Process(),
        log=EventLog(None, SilentDisplay()),
        on_step=on_step,
    )
    assert loop.run().status == "done"
    return model, objective
