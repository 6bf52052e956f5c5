"""Checks on a small copy, before the first step, that dividing the model does not change its results.

The copy is divided over the same grid by the same code, and also run undivided in one process. Loss
and gradients must agree.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine import (
    Batch,
    EngineError,
    Example,
    Loss,
    Setup,
    SpecError,
)
from engine.modeling import (
    ObjectiveModule,
    cross_entropy,
    head_parts,
    labelled_rows,
    place,
    reads_packed,
    small_copy,
)
from engine_parallel.config import Mesh
from engine_parallel.mesh.expert_parallel import experts_in
from engine_parallel.mesh.grid import CUTS, Grid
from engine_parallel.mesh.parallel_model import ParallelModel

TOLERANCE = 1e-3
"""Largest relative difference of the loss, and of each gradient's norm. Correct divisions of 22
architectures differ by 1e-4 at most in sixty layers, from the order of float32 sums. A lost window,
scaling or document boundary changes some gradient by 60 % or more, as the drawn weights make every part
of a layer matter."""
_DRAWS = 3
"""Draws of weights that must all differ before it is an error: rounding alone may change which of two
nearly equal experts a router chooses."""
_LENGTH = 20
AllSum = Callable[[Mapping[str, float]], dict[str, float]]


def check_cut(config: Mesh, grid: Grid, model: Any, setup: Setup, all_sum: AllSum) -> None:
    """Raises SpecError where the divided model computes something else; collective."""
    kind = model.config.model_type
    told = f"mesh {_degrees(grid)}: a {kind}"
    hint = "use the degrees data and shard, which work for every model"
    if grid.layout.expert > 1:
        experts_in([model], kind)
    if grid.layout.context > 1 and not reads_packed(model):
        raise SpecError(
            f"context: a {kind} cannot work on parts of rows: its layers mix packed documents",
            hint="use another degree",
        )
    try:
        with torch.random.fork_rng([grid.device] if grid.device.type == "cuda" else []):
            for draw in range(_DRAWS):
                wrong = _difference(config, grid, model, setup, all_sum, draw)
                if wrong is None:
                    return
    except EngineError:
        raise
    except Exception as error:  # a model's code may raise anything
        cause = error
        while isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        reason = next((line for line in str(cause).splitlines() if line.strip()), "")
        raise SpecError(
            f"{told} cannot be divided like this: {type(cause).__name__}: {reason}", hint=hint
        ) from error
    raise SpecError(f"{told} gives other results when divided: on a small copy, {wrong}", hint=hint)


def _difference(
    config: Mesh, grid: Grid, model: Any, setup: Setup, all_sum: AllSum, draw: int
) -> str | None:
    """Describes the largest difference beyond the tolerance, the same on every rank; None if none."""
    torch.manual_seed(draw)
    whole = small_copy(model, parts=grid.layout.tensor)
    whole.train().to(grid.device)
    cut = copy.deepcopy(whole)
    small = Setup(
        cut,
        setup.optimizer,
        _Probe(),
        activation_checkpointing=setup.activation_checkpointing,
    )
    # Data ranks alternate between two kinds of samples.
    kinds = [_batches(kind, config.runs_of_layers, whole.config.vocab_size) for kind in range(2)]
    ranks = [len(range(kind, grid.layout.samples_over, 2)) for kind in range(2)]
    weighed = [(batch, n) for kind, n in zip(kinds, ranks, strict=True) for batch in kind]
    count = float(sum(batch.counts["loss"] * n for batch, n in weighed))
    module = ObjectiveModule(whole, small.objective)
    loss = 0.0
    for batch, weight in weighed:
        term = module(place(batch, grid.device, small))["loss"] * (weight / count)
        term.backward()
        loss += float(term.detach())
    parallel = ParallelModel(config, grid, small, cut)
    sums = parallel.forward_backward(kinds[grid.data_rank % 2], {"loss": count}, 1.0)
    gradients = [(part.name, part.full(part.gradient)) for part in parallel.trained]
    found = all_sum({"loss": float(sums["loss"])})["loss"] / count
    expected = {n: p.grad for n, p in whole.named_parameters() if p.grad is not None}
    largest = max(float(gradient.norm()) for gradient in expected.values())
    apart = [(abs(found / loss - 1), f"its loss is {found:.6g} instead of {loss:.6g}")]
    for name, gradient in gradients:
        whole_gradient = expected.get(name, torch.zeros_like(gradient))
        size = max(float(whole_gradient.norm()), 1e-3 * largest)
        distance = float((gradient - whole_gradient).norm()) / size
        apart.append((distance, f"the gradient of {name} is {distance:.1%} off"))
    # Each pipeline rank has compared other weights.
    seen: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(seen, max(apart, key=lambda one: (not one[0] <= TOLERANCE, one[0])))
    worst = [one for one in seen if not one[0] <= TOLERANCE]
    return str(max(worst)[1]) if worst else None


class _Probe(Loss):
    """Next-token loss; for a model with a scalar head, the square of its value."""

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        weight, _, _ = head_parts(head)
        if weight.shape[0] == 1:
            return {"loss": head(hidden_BTD).square().sum()}
        return {"loss": cross_entropy(hidden_BTD, head, batch.targets["labels"])}


def _batches(kind: int, count: int, vocabulary: int) -> list[Batch]:
    """Micro-batches of two rows: one with two documents, and a shorter one."""
    generator = torch.Generator().manual_seed(kind)

    def row(length: int, second: int) -> Example:
        tokens = torch.randint(0, vocabulary, (length + 1,), generator=generator).numpy()
        places = torch.arange(length)
        places[second:] -= second
        fields = {
            "input_ids": tokens[:-1],
            "labels": tokens[1:],
            "position_ids": places.numpy(),
        }
        return Example(length, fields)

    return [
        labelled_rows([row(_LENGTH, 11 + number % 3), row(_LENGTH - 3, 0)])
        for number in range(count)
    ]


def _degrees(grid: Grid) -> str:
    degrees = {degree: getattr(grid.layout, degree) for degree in CUTS}
    return " × ".join(f"{name} {degree}" for name, degree in degrees.items() if degree > 1)
