"""Runs a spec in a process that dies by SIGKILL before it takes a step.

python killed_run.py SPEC RUNS STEP
"""

from __future__ import annotations

import os
import signal
import sys
from itertools import count
from pathlib import Path

from support.internals import Process, TrainingData, run_spec

from engine import load_spec


def main(spec: Path, runs: Path, step: int) -> None:
    take, steps = TrainingData.take, count(1)

    def dies(self, *arguments):
        if next(steps) == step:
            os.kill(os.getpid(), signal.SIGKILL)
        return take(self, *arguments)

    TrainingData.take = dies
    run_spec(load_spec(spec), runs, Process(), as_json=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]))
