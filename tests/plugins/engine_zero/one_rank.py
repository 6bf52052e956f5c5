"""Holds strategy `zero` to its contract on one process, and says what it did to that process."""

from __future__ import annotations

import json
import logging
import os

import torch

from engine.testing import check_component


def main() -> None:
    before = dict(os.environ)
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    check_component("strategy", {"type": "zero", "stage": 1})
    check_component("strategy", {"type": "zero", "stage": 2, "offload_optimizer": "cpu"})
    offloaded = {"offload_optimizer": "cpu", "offload_parameters": "cpu"}
    check_component("strategy", {"type": "zero", "stage": 3, **offloaded})
    added = {n: v for n, v in os.environ.items() if before.get(n) != v}
    same_log = root.level == level and root.handlers == handlers
    found = {"added": added, "same_log": same_log, "threads": torch.get_num_threads()}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
