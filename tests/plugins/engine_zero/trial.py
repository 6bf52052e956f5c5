"""A strategy that trains, and what a test asks of it; for two_ranks.py."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from engine_lm.next_token import NextTokenObjective
from engine_parallel.replicated import Replicated
from engine_zero.config import Zero
from engine_zero.zero import ZeroStrategy
from support import models
from support.internals import Checkpoints
from torch.distributed.tensor import DTensor

from engine import Batch, Example, Setup
from engine.modeling import parameter_groups

LR, CLIP = 1e-2, 1.0
CPU = torch.device("cpu")


class Objective(NextTokenObjective):
    """Whose loss can be multiplied."""

    factor = 1.0

    def loss(self, hidden_BTD, head, batch):
        return {n: v * self.factor for n, v in super().loss(hidden_BTD, head, batch).items()}


def model(seed: int = 0, tied: bool = True) -> Any:
    return models.tiny(
        seed=seed,
        vocab_size=67,
        hidden_size=32,
        intermediate_size=48,
        num_key_value_heads=1,
        max_position_embeddings=32,
        tie_word_embeddings=tied,
    )


def frozen_model(seed: int = 0) -> Any:
    """Checkpoints leave out frozen weights, so those are always the same."""
    built, embedding = model(seed), model().model.embed_tokens.weight.detach()
    built.model.embed_tokens.weight.requires_grad_(False).copy_(embedding)
    return built


def optimizer(parameters):
    """Two groups: matrices decay; and the norms' rate is halved."""
    config: Any = SimpleNamespace(weight_decay=0.1, groups=())

    def settings(name, parameter):
        return {"lr_scale": 0.5 if parameter.ndim < 2 else 1.0}

    return torch.optim.AdamW(parameter_groups(config, parameters, settings), fused=True)


def setup(objective: Objective, **changes: Any) -> Setup:
    built = changes.pop("build", model)()
    return Setup(**{"model": built, "optimizer": optimizer, "objective": objective, **changes})


def examples(seed: int) -> list[Example]:
    """Eight of other lengths for every seed."""
    return models.examples((5 + (7 * n + 3 * seed) % 23 for n in range(8)), seed, vocabulary=67)


class Training:
    """A strategy and the objective in it."""

    def __init__(self, rank: int, size: int, config: Zero | None, **changes: Any) -> None:
        self.objective = Objective()
        self.rank, self.size = rank, size
        context: Any = SimpleNamespace(rank=rank, world_size=size, device=CPU)
        self.strategy: Any = ZeroStrategy(config, context) if config else Replicated(context)
        self.strategy.prepare(setup(self.objective, **changes))

    @classmethod
    def of(cls, strategy: Any) -> Training:
        """Around a strategy that is prepared already, on its part of the rows."""
        made = cls.__new__(cls)
        made.objective, made.strategy = Objective(), strategy
        made.rank, made.size = strategy.data_rank, strategy.data_size
        return made

    def backward(self, number: int) -> float:
        """Two micro-batches per rank; the loss over all."""
        batches = self._batches(number)
        local = float(sum(b.counts["loss"] for b in batches))
        counts = self.strategy.all_sum({"loss": local})
        sums = self.strategy.forward_backward(batches, counts)
        return self.strategy.all_sum({"loss": float(sums["loss"])})["loss"] / counts["loss"]

    def part_backward(self, number: int) -> None:
        """The first of several micro-batches, when gradients take the most room."""
        self.strategy._engine.set_gradient_accumulation_boundary(False)
        terms = self.strategy._engine(self._batches(number)[0])
        self.strategy._engine.backward(terms["loss"])

    def _batches(self, number: int) -> list[Batch]:
        mine = examples(number % 4)[self.rank :: self.size]
        half = len(mine) // 2
        return [self.objective.collate(e) for e in (mine[:half], mine[half:])]

    def step(self, number: int, limit: float = math.inf, clip: float = CLIP) -> tuple[float, ...]:
        """Loss and gradient norm of a step, and whether it was skipped."""
        loss = self.backward(number)
        asked = float(self.strategy.gradient_norm())
        done = self.strategy.step(LR / (1 + number % 5), clip, limit)
        norm = float(done.grad_norm)
        assert asked == norm or math.isclose(asked, norm, rel_tol=1e-5), (asked, norm)
        return loss, float(done.grad_norm), bool(done.skipped)

    def steps(self, start: int, stop: int) -> list[tuple[float, ...]]:
        return [self.step(number) for number in range(start, stop)]

    def held_out(self) -> float:
        """Nats per token on unseen rows, which this rank reads alone."""
        batch = self.objective.collate(examples(99))
        with self.strategy.inference() as plain, torch.no_grad():
            assert not plain.training
            logits = plain(**batch.inputs, use_cache=False).logits.float()
        labels = batch.targets["labels"].flatten()
        return float(torch.nn.functional.cross_entropy(logits.flatten(0, 1), labels))

    def weights(self) -> dict[str, torch.Tensor]:
        return {name: tensor.clone() for name, tensor in self.strategy.export()}


def flat(state: dict, at: str = "") -> Iterator[tuple[str, torch.Tensor]]:
    for key, value in state.items():
        if isinstance(value, dict):
            yield from flat(value, f"{at}{key}/")
        else:
            yield f"{at}{key}", value.to_local() if isinstance(value, DTensor) else value.clone()


def same(a: dict, b: dict) -> bool:
    a, b = dict(flat(a)), dict(flat(b))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def distance(a: dict, b: dict) -> float:
    """The largest difference between two models' weights; they have the same entries."""
    assert [(n, t.shape, t.dtype) for n, t in a.items()] == [
        (n, t.shape, t.dtype) for n, t in b.items()
    ]
    return max(float((a[name] - b[name]).abs().max()) for name in a)


def storages(tensors) -> int:
    """Bytes of the tensors, each storage once."""
    found = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(found.values())


def save(training: Training, folder: Path):
    checkpoints = Checkpoints(folder, rank=dist.get_rank(), background=True)
    checkpoints.save(training.strategy.state(), {}, step=2, score=None)
    checkpoints.close()
    return checkpoints.latest()


def load(training: Training, saved) -> None:
    state = training.strategy.state()
    Checkpoints(saved.folder.parent, rank=dist.get_rank()).load(saved, state)
    training.strategy.load(state)
