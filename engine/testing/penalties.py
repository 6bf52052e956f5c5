"""Checks that penalties keep their contract."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from engine.contracts.batch import Batch, Penalty
from engine.contracts.component_config import PenaltyConfig
from engine.modeling.heads import ObjectiveModule
from engine.modeling.model_check import examine
from engine.modeling.parameter_terms import ParameterTerms
from engine.modeling.token_loss import IGNORE
from engine.testing.requirements import require, require_json
from engine.testing.standalone import TINY_OBJECTIVE, StandAloneContext, tiny_model
from engine.training.penalties import Named, Penalties

_STEPS = 3
_CLOSE: dict[str, Any] = {"rtol": 1e-4, "atol": 1e-6}
"""Tolerance for float32 sums in another order."""


def penalty(new: Callable[[], Penalty], config: PenaltyConfig, context: StandAloneContext) -> None:
    """Checks the terms' sums and gradients under accumulation and padding, and an exact resume.

    Runs the context's ``model``: give a :class:`StandAloneContext` another one for a penalty that reads
    modules which the small model lacks.
    """
    whole, parts, padded = _batches(context)
    _check_inputs(new(), config, context, whole)
    _check_parts(new(), context)
    _check_steps(new, config, context, whole)
    others = {"in micro-batches": parts, "with more padding": padded}
    for told, batches in others.items():
        one, other = (_Learner(new(), config, context) for _ in range(2))
        for _ in range(_STEPS):
            expected, found = one.step(whole), other.step(batches)
            for name, value in expected.items():
                require(
                    torch.allclose(found[name], value, **_CLOSE),
                    f"{told}, {name} is that of one batch: {found[name]}, not {value}",
                )
    stand_in = Batch(parts[0].inputs, parts[0].targets, parts[0].counts, tokens=0)
    before = _Learner(new(), config, context).step(parts)
    after = _Learner(new(), config, context).step([*parts, stand_in])
    for name, value in before.items():
        require(torch.allclose(after[name], value, **_CLOSE), f"a stand-in adds nothing to {name}")
    _check_resume(new, config, context, whole)


def _batches(context: StandAloneContext) -> tuple[list[Batch], list[Batch], list[Batch]]:
    """Rows of unequal length: in one micro-batch, in two, and in one with more padding."""
    objective = context.build("objective", TINY_OBJECTIVE)
    examples = [
        example
        for number, record in enumerate(context.held_out())
        for example in objective.encode(record, context.tokenizer(), 9 + number % 7)
    ][:6]
    whole = objective.collate(examples)
    wide = {name: pad(rows, (0, 3)) for name, rows in whole.inputs.items()}
    targets = {name: pad(rows, (0, 3), value=IGNORE) for name, rows in whole.targets.items()}
    padded = Batch(wide, targets, whole.counts, whole.tokens)
    parts = [objective.collate(examples[:2]), objective.collate(examples[2:])]
    return [whole], parts, [padded]


def _check_inputs(
    penalty: Penalty, config: PenaltyConfig, context: StandAloneContext, batches: Sequence[Batch]
) -> None:
    named = list(penalty.start(tiny_model(context)))
    declared = "modules" in config.inputs
    require(
        bool(named) == declared,
        f"start names modules exactly where `inputs` has 'modules': it names {named or 'none'}",
    )
    weights = dict(tiny_model(context).named_parameters())
    losses = [penalty.parameter_loss(n, w, penalty.keep(n, w)) for n, w in weights.items()]
    require(
        any(loss is not None for loss in losses) == ("parameters" in config.inputs),
        "parameter_loss gives something exactly where `inputs` has 'parameters'",
    )
    for loss in losses:
        require(loss is None or loss.dim() == 0, "parameter_loss is a scalar")
    for name, weight in weights.items():
        for key, kept in penalty.keep(name, weight).items():
            require(kept.shape == weight.shape, f"kept '{key}' has the shape of {name}")
    learner = _Learner(penalty, config, context)
    found = [learner.step(batches) for _ in range(_STEPS)]
    require(
        any(float(step["the term"]) != 0 for step in found) and len(found[-1]) > 1,
        "it is a term with a gradient: neither is 0 in every step",
    )


def _check_parts(penalty: Penalty, context: StandAloneContext) -> None:
    """The term of a parameter is the sum of those of its parts."""
    penalty.start(tiny_model(context))
    for name, weight in tiny_model(context).named_parameters():
        kept = penalty.keep(name, weight.detach().clone())
        moved = (weight.detach() + 0.1 * torch.randn_like(weight)).requires_grad_()
        whole = penalty.parameter_loss(name, moved, kept)
        if whole is None:
            continue
        cut = {key: value.chunk(2) for key, value in kept.items()}
        parts = [
            penalty.parameter_loss(name, part, {key: value[number] for key, value in cut.items()})
            for number, part in enumerate(moved.chunk(2))
        ]
        total = sum(part for part in parts if part is not None)
        require(
            torch.is_tensor(total) and torch.allclose(total, whole, **_CLOSE),
            f"the term of {name} is the sum of its parts' terms: {total}, not {whole}",
        )


def _check_steps(
    new: Callable[[], Penalty],
    config: PenaltyConfig,
    context: StandAloneContext,
    batches: Sequence[Batch],
) -> None:
    """Checks that steps repeat, that what is measured is a step's, and that the weight is a factor."""
    one, same = (_Learner(new(), config, context) for _ in range(2))
    for _ in range(_STEPS):
        first, second = one.step(batches), same.step(batches)
        require(
            all(torch.equal(value, second[name]) for name, value in first.items()),
            "the same batches give the same terms and gradients, to the bit",
        )
    measuring = new()
    _Learner(measuring, config, context).step(batches)
    left = {name: value for name, value in measuring.measured().items() if value}
    require(not left, f"measured() gives sums since its last call, after which {left} is left")
    heavier = config.model_copy(update={"weight": 3 * config.weight})
    heavy = _Learner(context.component("penalty", heavier), heavier, context)
    value = _Learner(new(), config, context).step(batches)["the term"]
    other = heavy.step(batches)["the term"]
    require(
        torch.allclose(3 * value, other, **_CLOSE),
        f"at three times the `weight` the term is three times {value:.6g}, not {other:.6g}: the engine "
        "multiplies by it",
    )


def _check_resume(
    new: Callable[[], Penalty],
    config: PenaltyConfig,
    context: StandAloneContext,
    batches: Sequence[Batch],
) -> None:
    first, second = (_Learner(new(), config, context) for _ in range(2))
    for _ in range(_STEPS):
        first.step(batches)
    kept = require_json(first.penalties.state(), "state(), which checkpoints store")
    second.model.load_state_dict(first.model.state_dict())
    second.penalties.load(kept)
    for _ in range(_STEPS):
        expected, found = first.step(batches), second.step(batches)
        for name, value in expected.items():
            require(torch.equal(found[name], value), f"resumed, it goes on with the same {name}")
    require(
        second.penalties.state() == first.penalties.state(), "resumed, it ends in the same state"
    )


class _Learner:
    """A small model that learns with a penalty alone, by plain gradient descent."""

    def __init__(self, penalty: Penalty, config: PenaltyConfig, context: StandAloneContext) -> None:
        self.model = tiny_model(context)
        examine(self.model, learns=True)
        before = copy.deepcopy(self.model.state_dict())
        self.penalties = Penalties([Named("kit", config, penalty)], self.model)
        for name, value in self.model.state_dict().items():
            require(torch.equal(before[name], value), f"start and keep do not change {name}")
        objective = context.build("objective", TINY_OBJECTIVE)
        self._module = ObjectiveModule(self.model, self.penalties.around(objective))
        self._named = [(n, p) for n, p in self.model.named_parameters() if p.requires_grad]
        names = [name for name, _ in self._named]
        self._terms = ParameterTerms(self.penalties.parameter_terms, names, context.device)

    def step(self, batches: Sequence[Batch]) -> dict[str, Tensor]:
        """Takes a step. Returns the penalty's value, and its gradient by parameter."""
        weights = [parameter for _, parameter in self._named]
        self.model.zero_grad()
        torch.manual_seed(0)
        total = torch.zeros(())
        tokens = sum(batch.tokens for batch in batches)

        for batch in self.penalties.counted(batches):
            term = self._module(batch).get("penalty/kit")
            if term is not None:
                (term / tokens).backward()
                total += term.detach() / tokens
        for value in self._terms.add_gradients(weights).values():
            total += value
        for name, weight in self._named:
            grad = weight.grad
            require(
                grad is None or bool(grad.isfinite().all()), f"the gradient of {name} is finite"
            )
        found = {n: w.grad.clone() for n, w in self._named if w.grad is not None}
        with torch.no_grad():
            for weight in weights:
                if weight.grad is not None:
                    weight -= 0.1 * weight.grad
                weight += 1e-3  # so that a distance to the start grows
        self.penalties.end_step(dict, skipped=False)
        return {"the term": total, **{f"the gradient of {n}": g for n, g in found.items()}}
