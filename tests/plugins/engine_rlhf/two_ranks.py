"""Trains a spec's stages by several strategies, the first broken off in between; for torchrun.

torchrun --nproc-per-node 2 two_ranks.py SPEC RUNS STRATEGY…

Strategies are JSON, and those of all train stages; each runs in RUNS/NUMBER, where stages may be done
already. The others are broken off after half of their steps.
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch.distributed as dist
import yaml
from support.internals import Process, run_spec

from engine import load_spec


class Joined(Process):
    """A process that has met the others already, and stays with them."""

    def join(self) -> None:
        pass

    def leave(self) -> None:
        pass


def main(spec: Path, runs: Path, strategies: list[str]) -> None:
    dist.init_process_group("gloo")
    rank, size = dist.get_rank(), dist.get_world_size()
    asked = yaml.safe_load(spec.read_text(encoding="utf-8"))
    steps = {
        name: int(stage["train"]["budget"].split()[0])
        for name, stage in asked["stages"].items()
        if "train" in stage
    }
    for number, strategy in enumerate(strategies):
        folder = runs / str(number) / asked["name"]
        chosen = [f"stages.{name}.train.strategy={strategy}" for name in steps]
        less = [
            f"stages.{name}.train.budget={count // 2} steps"
            for name, count in steps.items()
            if not (folder / name).exists()
        ]
        for overrides in [[*chosen, *less]] * (number == 0) + [chosen]:
            loaded = load_spec(spec, overrides=overrides, processes=size)
            process = Joined(rank, size, rank)
            assert run_spec(loaded, runs / str(number), process, as_json=True) == 0
    dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3:])
