"""Training on poisoned samples, and runs that break off."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import pytest
from engine_lm.next_token import NextTokenObjective

from engine.data.dataset import TrainingData


class PowerFailure(BaseException):
    """Nothing in the engine expects it."""


@dataclass
class Samples:
    """What training reads: the global indices of every step's samples, in the order of steps.

    ``poison`` multiplies the loss, and so the gradient, of any step that reads an index.
    """

    taken: list[list[int]] = field(default_factory=list)
    poison: dict[int, float] = field(default_factory=dict)
    power_fails_before: int | None = None
    """Breaks off as a kill does, without saving, before this step of the process."""

    PowerFailure = PowerFailure

    def factor(self) -> float:
        return math.prod(self.poison.get(i, 1.0) for i in self.taken[-1])


@pytest.fixture
def samples(monkeypatch) -> Samples:
    seen = Samples()
    take, loss = TrainingData.take, NextTokenObjective.loss

    def spy(self, cursor, count, excluded, part, of):
        if len(seen.taken) + 1 == seen.power_fails_before:
            raise PowerFailure
        examples, after = take(self, cursor, count, excluded, part, of)
        inside = [i for i in range(cursor, after) if not any(a <= i < b for a, b in excluded)]
        assert len(inside) == count
        seen.taken.append(inside)
        return examples, after

    def poisoned(self, hidden_BTD, head, batch):
        terms = loss(self, hidden_BTD, head, batch)
        return {name: term * seen.factor() for name, term in terms.items()}

    monkeypatch.setattr(TrainingData, "take", spy)
    monkeypatch.setattr(NextTokenObjective, "loss", poisoned)
    return seen


@pytest.fixture(autouse=True)
def _trackers_keep_to_themselves(monkeypatch, tmp_path) -> None:
    """Nothing of theirs lands in the user's home or on the network."""
    monkeypatch.setenv("WANDB_CACHE_DIR", str(tmp_path / "wandb-cache"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "wandb-config"))
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
