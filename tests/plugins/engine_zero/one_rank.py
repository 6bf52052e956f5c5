"""Holds strategy `zero` to its contract on one process, and says what it did to that process."""

from __future__ import annotations

import json
import logging
import os
from types import SimpleNamespace
from typing import Any

import torch
from engine_zero.config import Zero
from engine_zero.start import deepspeed_for
from engine_zero.zero import ZeroStrategy

from engine import RunError, Setup
from engine.testing import StandAloneContext, check_component, tiny_model


def main() -> None:
    before = dict(os.environ)
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    check_component("strategy", {"type": "zero", "stage": 1})
    check_component("strategy", {"type": "zero", "stage": 2, "offload_optimizer": "cpu"})
    offloaded = {"offload_optimizer": "cpu", "offload_parameters": "cpu"}
    check_component("strategy", {"type": "zero", "stage": 3, **offloaded})
    context: Any = SimpleNamespace(rank=0, world_size=1, device=torch.device("cpu"))
    with deepspeed_for(context) as deepspeed:
        can_use_disk = deepspeed.ops.op_builder.AsyncIOBuilder().is_compatible()
    to_disk = {"stage": 3, "offload_optimizer": "disk", "offload_folder": "never-written"}
    found = {
        "added": [n for n, v in os.environ.items() if before.get(n) != v],
        "same_log": root.level == level and root.handlers == handlers,
        "can_use_disk": can_use_disk,
        "disk": None if can_use_disk else refusal(context, **to_disk),
        "config": refusal(context, config={"zero_optimization": {"reduce_bucket_size": -1}}),
    }
    print(json.dumps(found))


def refusal(context: Any, **fields: Any) -> str:
    strategy = ZeroStrategy(Zero(**fields), context)
    kit = StandAloneContext()
    optimizer = kit.build("optimizer", {"type": "adamw", "lr": 1e-2})
    try:
        strategy.prepare(Setup(tiny_model(kit), optimizer, objective=None))
    except RunError as error:
        return str(error)
    raise AssertionError("it was not refused")


if __name__ == "__main__":
    main()
