"""One of two processes: bytes that it holds after a step on each grid, and those of the plan."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import torch
import torch.distributed as dist
from engine_parallel.config import Mesh
from engine_parallel.mesh.strategy import build
from engine_plan.estimate import WIDTHS, Work, estimate, model_states

from engine import Example, Setup, rank_parameters
from engine.testing import StandAloneContext

MODEL = {"type": "llama", "hidden_size": 64, "layers": 2, "heads": 2, "context": 64}
ROWS, LENGTH = 4, 64


def held(grid: dict, precision: str) -> dict[str, list[float]]:
    """By kind: bytes held, bytes planned."""
    kit = StandAloneContext()
    here = SimpleNamespace(
        rank=dist.get_rank(), world_size=dist.get_world_size(), device=torch.device("cpu")
    )
    config, objective = Mesh(**grid), kit.build("objective", {"type": "next-token"})
    strategy = build(config, here)
    strategy.prepare(
        Setup(
            model=kit.build("model", MODEL),
            optimizer=kit.build("optimizer", {"type": "adamw"}),
            objective=objective,
            precision=precision,
        )
    )
    places = list(range(LENGTH))
    fields = {"input_ids": places, "labels": places, "position_ids": places}
    batch = objective.collate([Example(LENGTH, fields)] * ROWS)
    counts = {"loss": 4.0 * ROWS * LENGTH}
    with Kept() as kept:
        strategy.forward_backward([batch], counts)
    strategy.forward_backward([batch, batch], counts)
    strategy.step(1e-3, 1.0, float("inf"))
    weights = strategy._masters.weights
    states = [strategy._masters._optimizer.state[weight] for weight in weights]
    moments = [state[name] for state in states for name in ("exp_avg", "exp_avg_sq")]
    layout = config.layout(here.world_size)
    shape = kit.config("model", MODEL).shape(258)
    mine = rank_parameters(shape, layout)
    work = Work(
        shape,
        precision,
        ROWS,
        LENGTH,
        micro_batches=1,
        scores=kit.config("model", MODEL).scores("cpu"),
    )
    planned = estimate(work, layout).memory.activations
    plan = model_states(mine, layout, WIDTHS[precision], (2, 2))
    return {
        "weights and moments": [_bytes([*weights, *moments]), plan.parameters + plan.optimizer],
        "gradients": [_bytes([weight.grad for weight in weights]), plan.gradients],
        "activations": [kept.bytes, planned],
    }


class Kept:
    """Bytes that a forward pass leaves for backward, weights left out, each storage once."""

    def __enter__(self) -> Kept:
        self._storages: dict[int, torch.UntypedStorage] = {}
        self._hooks = torch.autograd.graph.saved_tensors_hooks(self._keep, lambda tensor: tensor)
        self._hooks.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        self._hooks.__exit__(*raised)
        self.bytes = sum(storage.nbytes() for storage in self._storages.values())

    def _keep(self, tensor: torch.Tensor) -> torch.Tensor:
        local = tensor.to_local() if hasattr(tensor, "to_local") else tensor
        local = getattr(local, "elem", local)  # of what is still under way
        whose = local if local._base is None else local._base
        if not isinstance(whose, torch.nn.Parameter):
            storage = local.untyped_storage()  # held, so that no other takes its place
            self._storages[storage.data_ptr()] = storage
        return tensor


def _bytes(tensors: list[torch.Tensor]) -> int:
    """Each storage once: a layer's gradients are parts of one."""
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in tensors}
    return sum(storages.values())


if __name__ == "__main__":
    dist.init_process_group("gloo")
    found = [held(grid, precision) for grid, precision in json.loads(sys.argv[1])]
    every = [None] * dist.get_world_size()
    dist.all_gather_object(every, found)
    if dist.get_rank() == 0:
        print(json.dumps(every))
    dist.destroy_process_group()
