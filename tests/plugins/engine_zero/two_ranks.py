"""Trains with strategy `zero` beside others and writes down what each rank saw; for torchrun.

torchrun --nproc-per-node 2 two_ranks.py FOLDER STAGE,… STEPS

A spec.yaml in the folder is run, too.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from engine_parallel.config import Mesh
from engine_parallel.mesh.strategy import build as build_mesh
from engine_zero.config import Zero
from support.internals import Process, run_spec
from trial import (
    CPU,
    Objective,
    Training,
    distance,
    frozen_model,
    load,
    model,
    same,
    save,
    setup,
    storages,
)

from engine import load_spec


def held(training: Training) -> dict[str, int]:
    """Bytes of weights, gradients, and masters with optimizer state."""
    strategy = training.strategy
    parameters = list(strategy._engine.module.parameters())
    flats = list({id(f): f for f in map(strategy._parts.flat, parameters)}.values())
    state = [v for f in flats for v in strategy._base.state[f].values() if v.dim()]
    weights = [getattr(p, "ds_tensor", p).data for p in parameters] + [p.data for p in parameters]
    gradients = [p.grad for p in parameters if p.grad is not None]
    for kept in strategy._zero.averaged_gradients.values():
        gradients += list(kept or [])
    for kept in getattr(strategy._zero, "all_grad_tensors", {}).values():
        gradients += list(kept or [])
    return {
        "weights": storages(weights),
        "gradients": storages(gradients),
        "optimizer": storages([*flats, *state]),
    }


def plain(rank, size, stage: int, steps: int) -> dict[str, Any]:
    """Beside `single`: curve, weights, held-out loss; and the bytes on this rank."""
    changes: dict[str, Any] = {"build": lambda: model(tied=False)}
    alone = Training(0, 1, None, **changes)
    # Nothing is too small to be divided.
    small = {"zero_optimization": {"stage3_param_persistence_threshold": 0}}
    training = Training(rank, size, Zero(stage=stage, config=small), **changes)
    found: dict[str, Any] = {"model_bytes": storages(alone.strategy._model.parameters())}
    found["curve"], found["single"] = training.steps(0, steps), alone.steps(0, steps)
    found["held_out"] = [training.held_out(), alone.held_out()]
    found["curve"] += training.steps(steps, steps + 1)
    found["single"] += alone.steps(steps, steps + 1)
    found["distance"] = distance(training.weights(), alone.weights())
    training.part_backward(0)
    found["bytes"] = held(training)
    return found


def whole(rank, size, stage: int, folder: Path, **changes: Any) -> dict[str, Any]:
    """Beside `ddp`, with all that may go wrong in between; then from checkpoints."""
    training, ddp = (
        Training(rank, size, Zero(stage=stage), **changes),
        Training(rank, size, None, **changes),
    )
    found: dict[str, Any] = {"curve": training.steps(0, 2), "ddp": ddp.steps(0, 2)}
    saved = save(training, folder)
    at = training.weights()
    before = training.strategy.state()
    training.objective.factor = math.nan if rank == 1 else 1.0
    poisoned = training.step(2)
    training.objective.factor = 1.0
    spike = training.step(2, limit=1e-4)
    found["skipped"] = [poisoned[2], spike[2]]
    found["spike"] = spike[1]
    training.backward(3)  # no step follows: it shall leave nothing behind
    found["unchanged"] = same(before, training.strategy.state())
    found["curve"] += training.steps(2, 4)
    found["ddp"] += ddp.steps(2, 4)
    found["held_out"] = [training.held_out(), ddp.held_out()]
    found["distance"] = distance(training.weights(), ddp.weights())

    resumed = Training(
        rank, size, Zero(stage=stage), **{**changes, "build": lambda: changes["build"](9)}
    )
    load(resumed, saved)
    found["taken_over"] = distance(at, resumed.weights())
    resumed.steps(2, 4)
    found["resumed"] = same(training.strategy.state(), resumed.strategy.state())
    found["held_out_resumed"] = resumed.held_out() - training.held_out()

    saved_ddp = save(ddp, folder / "ddp")
    load(resumed, saved_ddp)
    found["from_ddp"] = distance(ddp.weights(), resumed.weights())
    found["next_from_ddp"] = [t.step(4)[0] for t in (ddp, resumed)]
    load(ddp, saved)
    found["to_ddp"] = distance(at, ddp.weights())
    single = Training(0, 1, None, **changes)
    state = single.strategy.state()
    dcp.load(state, storage_reader=dcp.FileSystemReader(saved.folder / "tensors"), no_dist=True)
    single.strategy.load(state)
    found["to_single"] = distance(at, single.weights())
    found["next_to"] = [found["curve"][2][0], *(t.step(2)[0] for t in (ddp, single))]
    return found


def offloaded(rank, size, stage: int) -> dict[str, Any]:
    """In bf16 beside `ddp`, with a NaN and a spike in between."""
    places = {"offload_optimizer": "cpu"} | ({"offload_parameters": "cpu"} if stage == 3 else {})
    training = Training(rank, size, Zero(stage=stage, **places), precision="bf16")
    ddp = Training(rank, size, None, precision="bf16")
    found: dict[str, Any] = {"curve": training.steps(0, 1), "ddp": ddp.steps(0, 3)}
    training.objective.factor = math.nan if rank == 1 else 1.0
    found["skipped"] = [training.step(1)[2]]
    training.objective.factor = 1.0
    found["skipped"] += [training.step(1, limit=1e-4)[2]]
    training.backward(2)  # no step follows: it shall leave nothing behind
    found["curve"] += training.steps(1, 3)
    found["distance"] = distance(training.weights(), ddp.weights())
    return found


def meshed(rank, size, stage: int, folder: Path) -> dict[str, Any]:
    """To `mesh` in shards and in a pipeline, and back from it."""
    training = Training(rank, size, Zero(stage=stage), ema=0.8)
    training.steps(0, 2)
    saved, at = save(training, folder), training.weights()
    found: dict[str, Any] = {"there": [], "back": [], "next": []}
    context: Any = SimpleNamespace(rank=rank, world_size=size, device=CPU)
    for degree in ("shard", "pipeline"):
        strategy: Any = build_mesh(Mesh(**{degree: 2}), context)
        strategy.prepare(setup(Objective(), ema=0.8))
        mesh = Training.of(strategy)
        load(mesh, saved)
        found["there"].append(distance(at, mesh.weights()))
        found["next"].append(mesh.step(2)[0])
        back = Training(rank, size, Zero(stage=stage), ema=0.8, build=lambda: model(seed=9))
        load(back, save(mesh, folder / degree))
        found["back"].append(distance(mesh.weights(), back.weights()))
    found["next"].append(training.step(2)[0])
    return found


class Joined(Process):
    """A process that has met the others already, and stays with them."""

    def join(self) -> None:
        pass

    def leave(self) -> None:
        pass


def main(folder: Path, stages: list[int], steps: int) -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    found: dict[str, Any] = {}
    fp32 = {"build": frozen_model, "ema": 0.8}
    bf16 = {"build": model, "ema": 0.8, "precision": "bf16", "activation_checkpointing": True}
    for stage in stages:
        found[f"plain/{stage}"] = plain(rank, size, stage, steps)
        found[f"offloaded/{stage}"] = offloaded(rank, size, stage)
        found[f"fp32/{stage}"] = whole(rank, size, stage, folder / f"{stage}-fp32", **fp32)
        found[f"bf16/{stage}"] = whole(rank, size, stage, folder / f"{stage}-bf16", **bf16)
    found["meshed"] = meshed(rank, size, stages[-1], folder / "meshed")
    if (folder / "spec.yaml").exists():
        loaded = load_spec(folder / "spec.yaml", processes=size)
        assert run_spec(loaded, folder, Joined(rank, size, rank), as_json=True) == 0
    gathered: list[Any] = [None] * size
    dist.all_gather_object(gathered, found)
    if rank == 0:
        (folder / "found.json").write_text(json.dumps(gathered), encoding="utf-8")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), [int(s) for s in sys.argv[2].split(",")], int(sys.argv[3]))
