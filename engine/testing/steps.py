"""Steps of a small model that the kit lets strategies take, and the usual ones to compare them with."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from engine.contracts.batch import Batch, Example, Loss
from engine.contracts.strategy import Setup, Step
from engine.testing.requirements import require
from engine.testing.standalone import (
    TINY_OBJECTIVE,
    TINY_OPTIMIZER,
    StandAloneContext,
    tiny_model,
)

_PLAIN: Mapping[str, Any] = {"type": "single"}
"""The strategy with which others are compared."""
STEPS = 3
_LENGTH, _EXAMPLES = 24, 4
_LR, _NORM = 1e-2, 1.0
_FIXED = "model.embed_tokens.weight"


@dataclass(frozen=True, slots=True)
class Case:
    """Steps of which something is special; ``name`` begins a sentence."""

    name: str
    micro_batches: int = 1
    stand_in: bool = False
    max_norm: float = _NORM
    limits: Sequence[float] = (math.inf, math.inf)
    fixed: Sequence[str] = ()
    asks: bool = False
    optimizer: Mapping[str, Any] = field(default_factory=dict)


CASES = (
    Case("in one micro-batch"),
    Case("in several micro-batches", micro_batches=2),
    Case("with gradients clipped to max_norm", max_norm=0.05),
    Case("after a skipped step", limits=(math.inf, 0.0, math.inf)),
    Case("with a stand-in, a micro-batch of 0 tokens", stand_in=True),
    Case("with frozen embeddings", fixed=(_FIXED,)),
    Case("with an objective that asks a frozen model (Loss.annotate)", asks=True),
    Case(
        "with a group whose lr_scale is not 1",
        optimizer={"groups": [{"match": f"*{_FIXED}", "lr_scale": 0.1}]},
    ),
)


class Steps:
    """A small model, and examples for some steps."""

    def __init__(self, context: StandAloneContext) -> None:
        self.context = context
        self.objective = context.build("objective", TINY_OBJECTIVE)
        made = [
            example
            for record in context.held_out()
            for example in self.objective.encode(record, context.tokenizer(), _LENGTH)
        ]
        self._examples = made[: STEPS * _EXAMPLES]

    def examples(self, step: int) -> list[Example]:
        """A step's, of all ranks."""
        return self._examples[step * _EXAMPLES :][:_EXAMPLES]

    def batches(self, step: int, count: int = 1) -> list[Batch]:
        """A step's examples in so many micro-batches, of which the last is the largest."""
        last = count - 1
        cuts = [slice(number, number + 1) for number in range(last)] + [slice(last, None)]
        return [self.objective.collate(self.examples(step)[cut]) for cut in cuts]

    def prepared(self, built: Any, case: Case = CASES[0], ema: float | None = None) -> Any:
        """The strategy, with the small model."""
        model = tiny_model(self.context)
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(name not in case.fixed)
        made = self.context.build("optimizer", {**TINY_OPTIMIZER, **case.optimizer})
        objective: Loss = _Asking(self.objective) if case.asks else self.objective
        frozen = {"scale": _Scale()} if case.asks else {}
        built.prepare(Setup(model, made, objective, frozen, ema=ema))
        return built

    def trained(self, built: Any, case: Case) -> list[tuple[dict[str, float], float, bool]]:
        """Sums, norm and decision of each step of a case."""
        found = []
        for step, limit in enumerate(case.limits):
            batches = self.batches(step, case.micro_batches)
            if case.stand_in:
                batches.append(replace(batches[0], tokens=0))
            sums, done = train(built, batches, limit, case.max_norm)
            figures = {name: float(value) for name, value in sums.items()}
            found.append((figures, float(done.grad_norm), bool(done.skipped)))
        return found

    def plain(self) -> Any:
        """The strategy that others are compared with."""
        return self.context.build("strategy", _PLAIN)


class _Scale(nn.Module):
    """A frozen model that knows a number."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.25), requires_grad=False)


class _Asking(Loss):
    """An objective whose loss is scaled by what a frozen model says."""

    def __init__(self, objective: Loss) -> None:
        self._objective = objective

    def annotate(self, batch: Batch, frozen: Mapping[str, nn.Module]) -> Batch:
        scale: Any = frozen["scale"]
        return replace(batch, targets={**batch.targets, "scale": scale.scale})

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        terms = self._objective.loss(hidden_BTD, head, batch)
        return {name: term * batch.targets["scale"] for name, term in terms.items()}


def train(
    built: Any, batches: Sequence[Batch], limit: float = math.inf, max_norm: float = _NORM
) -> tuple[Mapping[str, Tensor], Step]:
    """A step of the loop; its sums, and what became of it."""
    real = [batch for batch in batches if batch.tokens]
    counts = built.all_sum({"loss": float(sum(batch.counts["loss"] for batch in real))})
    sums = built.forward_backward(batches, counts)
    require(
        set(sums) == {"loss"} and bool(torch.isfinite(sums["loss"])),
        "forward_backward gives the objective's sums by term",
    )
    norm = float(built.gradient_norm())
    done: Step = built.step(_LR, max_norm, limit)
    require(
        math.isclose(norm, float(done.grad_norm), rel_tol=1e-5),
        "gradient_norm gives the norm of the following step",
    )
    return sums, done


def weights_of(built: Any) -> dict[str, Tensor]:
    """Copies of what the strategy exports."""
    return {name: tensor.detach().clone().cpu() for name, tensor in built.export()}
