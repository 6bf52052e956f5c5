"""Runs a compiled spec twice in one process: unbroken, and from a smaller budget on.

    python compiled_runs.py SPEC RUNS BUDGET

What dynamo knows is forgotten before each, as if in a process of its own. Prints the row counts that
were compiled for in each run.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import torch
import torch._dynamo

from engine.processes.process import Process
from engine.runs.session import run_spec
from engine.spec.loading import load_spec


def main(spec: Path, runs: Path, budget: str) -> None:
    counts = []

    def train(name: str, *overrides: str) -> None:
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        loaded = load_spec(spec, overrides=overrides)
        assert run_spec(loaded, runs / name, Process(), as_json=True) == 0
        counts.append(torch._dynamo.utils.counters["stats"]["unique_graphs"])

    shutil.copytree(runs / "whole", runs / "broken")  # what is prepared
    train("whole")
    train("broken", f"stages.base.train.budget={budget}")
    train("broken")
    print(json.dumps({"graphs": counts}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
