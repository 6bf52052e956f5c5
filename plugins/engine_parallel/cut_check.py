"""Whether a model that is cut up is still the model: before the first step, on a small copy of it.

The copy goes through the strategy's own code on the same grid, and through the model's own forward
in one process. Loss and gradients must agree.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine import (
    BaseObjective,
    Batch,
    EngineError,
    Example,
    ObjectiveModule,
    Setup,
    SpecError,
    cross_entropy,
    labelled_rows,
    place,
    shrunk_config,
)

if TYPE_CHECKING:
    from engine_parallel.mesh import Mesh

CUTS = ("tensor", "pipeline", "context", "expert")
"""Degrees that cut the model itself."""
TOLERANCE = 1e-3
"""Of the loss, and of each weight's gradient by its norm. Right cuts of 22 architectures are at
most 1e-4 apart, in sixty layers, by the order of summation in float32; a lost window, scaling or
border between documents puts some gradient 60 % off and more, as every part of a layer matters with
the weights that are drawn."""
_DRAWS = 3
"""A router between two experts that are equal to seven digits may choose otherwise: such a draw says
nothing, and another is made."""
_LENGTH = 20


def check_cut(strategy: Mesh, model: Any, setup: Setup) -> None:
    """Raises SpecError where the strategy would train another model than this; collective."""
    kind = model.config.model_type
    told = f"mesh {_degrees(strategy)}: a {kind}"
    mend = "use the degrees data and shard, which take every model as it is"
    try:
        with torch.random.fork_rng([strategy.device] if strategy.device.type == "cuda" else []):
            for draw in range(_DRAWS):
                wrong = _difference(strategy, model, setup, draw)
                if wrong is None:
                    return
    except EngineError:
        raise
    except Exception as error:  # whatever a model's code says of parts
        reason = (str(error).splitlines() or [""])[0]
        raise SpecError(
            f"{told} cannot be cut so: {type(error).__name__}: {reason}", mend=mend
        ) from error
    raise SpecError(
        f"{told} cut so is another model than the whole one: on a small copy, {wrong}", mend=mend
    )


def _difference(strategy: Mesh, model: Any, setup: Setup, draw: int) -> str | None:
    """What differs most beyond the tolerance, the same on every rank."""
    torch.manual_seed(draw)
    whole = type(model)(shrunk_config(model.config, parts=strategy.layout.tensor))
    whole.set_attn_implementation(model.config._attn_implementation)
    _draw(whole)
    whole.train().to(strategy.device)
    cut = copy.deepcopy(whole)
    small = Setup(
        lambda: cut,
        lambda parameters: torch.optim.SGD([p for _, p in parameters], lr=0.0),
        _Probe(),
        activation_checkpointing=setup.activation_checkpointing,
    )
    # Two kinds of samples, however many ranks have some.
    kinds = [
        _batches(kind, strategy.min_micro_batches, whole.config.vocab_size) for kind in range(2)
    ]
    ranks = [len(range(kind, strategy.data_size, 2)) for kind in range(2)]
    weighed = [(batch, n) for kind, n in zip(kinds, ranks, strict=True) for batch in kind]
    count = float(sum(batch.counts["loss"] * n for batch, n in weighed))
    module = ObjectiveModule(whole, small.objective)
    loss = 0.0
    for batch, n in weighed:
        term = module(place(batch, strategy.device, small))["loss"] * (n / count)
        term.backward()
        loss += float(term.detach())
    own = kinds[strategy.data_rank % 2]
    sums, gradients = strategy.trial(small, cut, own, {"loss": count})
    found = sums["loss"] / count
    expected = {n: p.grad for n, p in whole.named_parameters() if p.grad is not None}
    largest = max(float(gradient.norm()) for gradient in expected.values())
    apart = [(abs(found / loss - 1), f"its loss is {found:.6g} instead of {loss:.6g}")]
    for name, gradient in gradients:
        whole_gradient = expected.get(name, torch.zeros_like(gradient))
        size = max(float(whole_gradient.norm()), 1e-3 * largest)
        distance = float((gradient - whole_gradient).norm()) / size
        apart.append((distance, f"the gradient of {name} is {distance:.1%} off"))
    # Ranks of a pipeline saw different weights.
    seen: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(seen, max(apart, key=lambda one: (not one[0] <= TOLERANCE, one[0])))
    worst = [one for one in seen if not one[0] <= TOLERANCE]
    return str(max(worst)[1]) if worst else None


class _Probe(BaseObjective):
    """The next token; of a model with one value for a position, its square."""

    def loss(self, hidden_BTD: Tensor, head: nn.Module, batch: Batch) -> dict[str, Tensor]:
        weight: Any = head.weight
        if weight.shape[0] == 1:
            return {"loss": head(hidden_BTD).square().sum()}
        labels_BT = batch.targets["labels"]
        bias = getattr(head, "bias", None)
        return {"loss": cross_entropy(hidden_BTD, weight, labels_BT, bias=bias)}


@torch.no_grad()
def _draw(model: nn.Module) -> None:
    """Weights with which every part matters: products of unit variance, vectors near their own."""
    embeddings = {id(m.weight) for m in model.modules() if isinstance(m, nn.Embedding)}
    for parameter in model.parameters():
        noise = torch.randn_like(parameter)
        if parameter.dim() < 2:
            parameter.add_(0.1 * noise)
        elif id(parameter) in embeddings:
            parameter.copy_(noise)
        else:
            parameter.copy_(noise / parameter.shape[-1] ** 0.5)


def _batches(kind: int, count: int, vocabulary: int) -> list[Batch]:
    """Micro-batches of two rows, of which one has two documents and one is shorter."""
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


def _degrees(strategy: Mesh) -> str:
    degrees = {degree: getattr(strategy.layout, degree) for degree in CUTS}
    return " × ".join(f"{name} {degree}" for name, degree in degrees.items() if degree > 1)
