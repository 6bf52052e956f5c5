"""The states that a plan counts are the storages that training holds."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from engine_parallel.replicated import Replicated
from engine_plan.estimate import WIDTHS, model_states

from engine import Example, Layout, Setup, rank_parameters
from engine.testing import StandAloneContext

CONTEXT = SimpleNamespace(rank=0, world_size=1, device=torch.device("cpu"))
MODEL = {"type": "llama", "hidden_size": 64, "layers": 2, "heads": 2, "context": 64}


def _storages(tensors) -> int:
    """Bytes, each storage once."""
    found = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(found.values())


def _tensors(value) -> list[torch.Tensor]:
    if isinstance(value, dict):
        return [tensor for inner in value.values() for tensor in _tensors(inner)]
    return [value] if torch.is_tensor(value) else []


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    ("optimizer", "tolerance"), [("adamw", 1e-3), ("muon", 1e-3), ("adamw-8bit", 0.03)]
)
@pytest.mark.parametrize("ema", [None, 0.9])
def test_states_on_one_process(precision, optimizer, tolerance, ema):
    """Parameters, gradients, and masters, moments and averages: to 1 in 1000, for Adam's counters.

    Of 8 bits, to 3 in 100 here: the table of their values, and vectors, which keep 32.
    """
    context = StandAloneContext()
    objective = context.build("objective", {"type": "next-token"})
    strategy = Replicated(CONTEXT)
    config = context.config("optimizer", {"type": optimizer})
    strategy.prepare(
        Setup(
            model=context.build("model", MODEL),
            optimizer=context.component("optimizer", config),
            objective=objective,
            precision=precision,
            ema=ema,
        )
    )
    fields = {"input_ids": [1] * 16, "labels": [2] * 16, "position_ids": list(range(16))}
    batch = objective.collate([Example(16, fields)])
    strategy.forward_backward([batch], {"loss": 16.0})
    strategy.step(1e-3, 1.0, float("inf"))

    parameters = list(strategy._model.parameters())
    held = _tensors(strategy.state())
    gradients = [master.grad for master in strategy._masters]
    own = {t.untyped_storage().data_ptr() for t in parameters}
    rest = [t for t in held if t.untyped_storage().data_ptr() not in own]

    shape = context.config("model", MODEL).shape(258)
    floats = tuple(config.state_floats(hidden=hidden) for hidden in (True, False))
    mine, widths = rank_parameters(shape, Layout()), WIDTHS[precision]
    states = model_states(mine, Layout(), widths, floats, averaged=ema is not None)
    assert states.parameters == _storages(parameters)
    assert states.gradients == _storages(gradients)
    assert states.optimizer == pytest.approx(_storages(rest), rel=tolerance)


def test_states_on_grids(warm):
    """Of the fullest of two ranks, in float32 and bf16: to 1 in 1000, as norms are not cut; what a
    forward pass keeps for backward, to 1 in 20."""
    degrees = ("data", "shard", "tensor", "context")
    grids = [({degree: 2}, p) for degree in degrees for p in ("fp32", "bf16")]
    grids.append(({"pipeline": 2}, "bf16"))
    script = Path(__file__).with_name("memory_ranks.py")
    (told, _), _ = warm.ranks(2, [script, json.dumps(grids)])
    for grid, *ranks in zip(grids, *json.loads(told.splitlines()[-1]), strict=True):
        near = {"weights and moments": 1e-3, "gradients": 1e-3, "activations": 0.05}
        if grid[0] == {"pipeline": 2}:  # a tied matrix has its gradient at both ends, kept whole
            del near["gradients"]
        for kind, tolerance in near.items():
            (_, planned), *_ = (rank[kind] for rank in ranks)
            most = max(rank[kind][0] for rank in ranks)
            assert planned == pytest.approx(most, rel=tolerance), (grid, kind)
