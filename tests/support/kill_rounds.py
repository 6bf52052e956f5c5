"""Trains a spec's last stage in forked children that are killed with SIGKILL at random moments.

    python -m support.kill_rounds SPEC RUNS KILLS SEED [PROCESSES]

Children are forked from a process that has imported everything, so that a round costs a second and
not five. Prints one JSON object: what was killed where, and what was found afterwards.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import shutil
import signal
import socket
import sys
import time
import traceback
from functools import partial
from pathlib import Path

import torch
import transformers.models.llama.modeling_llama  # noqa: F401 - or each child would
from safetensors.torch import load_file

from engine.processes.process import Process
from engine.runs.session import run_spec
from engine.spec.loading import Loaded, load_spec
from engine.storage import manifest


def main(spec: Path, runs: Path, kills: int, seed: int, processes: int = 1) -> None:
    if processes > 1:  # ZeRO may be their strategy
        importlib.import_module("deepspeed")
    loaded = load_spec(spec, processes=processes)
    train = partial(_train, loaded, processes)
    chance = random.Random(seed)
    whole = runs / "whole"
    assert train(whole) == 0
    expected = _weights(loaded, whole)
    broken = runs / "broken"
    _fresh(loaded, whole, broken)
    started = time.monotonic()
    assert train(broken) == 0
    lasts = time.monotonic() - started
    found = {"kills": 0, "finished": 0, "inside_save": 0, "different": [], "damaged": []}
    _fresh(loaded, whole, broken)
    while found["kills"] < kills or found["finished"] == 0:
        # Now and then it is left to finish, so that something is compared.
        after = None if chance.random() < 0.15 else chance.uniform(0, lasts)
        status = train(broken, after)
        checkpoints = broken / loaded.spec.name / loaded.spec.order[-1] / "checkpoints"
        found["inside_save"] += any(checkpoints.glob(".partial-*"))
        if status == -signal.SIGKILL:
            found["kills"] += 1
            found["damaged"] += _damaged(checkpoints)
            continue
        assert status == 0, status
        found["finished"] += 1
        final = _weights(loaded, broken)
        same = final.keys() == expected.keys()
        if not same or not all(torch.equal(final[k], expected[k]) for k in final):
            found["different"].append(found["finished"])
        _fresh(loaded, whole, broken)
    print(json.dumps(found))


def _train(loaded: Loaded, processes: int, runs: Path, after: float | None = None) -> int:
    """Runs the spec in forked children, killed after so many seconds; their exit status."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    pids = [_child(loaded, runs, Process(rank, processes, rank), port) for rank in range(processes)]
    if after is not None:
        time.sleep(after)
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
    statuses = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]
    return next((status for status in statuses if status), 0)


def _child(loaded: Loaded, runs: Path, process: Process, port: int) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            quiet = os.open(os.devnull, os.O_WRONLY)
            os.dup2(quiet, 1)
            os.environ |= {
                "MASTER_ADDR": "localhost",
                "MASTER_PORT": str(port),
                "RANK": str(process.rank),
                "LOCAL_RANK": str(process.local_rank),
                "WORLD_SIZE": str(process.world_size),
            }
            status = run_spec(loaded, runs, process, as_json=True)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


def _fresh(loaded: Loaded, whole: Path, broken: Path) -> None:
    """A run of which only the last stage is missing."""
    shutil.rmtree(broken, ignore_errors=True)
    for part in (*loaded.spec.order[:-1], "spec.yaml", "resolved.yaml"):
        source, target = whole / loaded.spec.name / part, broken / loaded.spec.name / part
        target.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)


def _damaged(checkpoints: Path) -> list[str]:
    """Folders that pass for checkpoints and are not whole."""
    damaged = []
    for folder in checkpoints.glob("step-*"):
        if (folder / "manifest.json").exists():
            try:
                manifest.verify(folder)
            except Exception as error:
                damaged.append(f"{folder.name}: {error}")
    return damaged


def _weights(loaded: Loaded, runs: Path) -> dict[str, torch.Tensor]:
    """Of the last stage's model and its companions."""
    stage = runs / loaded.spec.name / loaded.spec.order[-1]
    files = sorted(stage.glob("*/model.safetensors"))
    return {f"{f.parent.name}/{k}": v for f in files for k, v in load_file(f).items()}


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:]))
