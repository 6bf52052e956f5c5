"""What is right with a model on two processes: the first losses are those of one.

``python -m engine_lm.trials.two_ranks SPEC RUNS STRATEGY`` is one rank, as a launcher's variables say.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from engine import EngineError, RunError
from engine.testing import FinishedRun, run_spec, train_tiny
from engine_lm.trials.subject import Subject

_DEGREES = ("shard", "tensor", "pipeline", "context", "expert")
_STRATEGIES: Mapping[str, tuple[Mapping[str, Any], float]] = {
    **{name: ({"type": "mesh", name: 2}, 1e-5) for name in _DEGREES},
    "zero": ({"type": "zero", "stage": 3}, 1e-4),
}
_LOSSES = 3
_BATCH = {"tokens": 8 * 48, "sequence": 48}  # rows that two processes share evenly
_TIMEOUT = 300.0
_OTHER = "rank 0 failed"
"""What another rank says of what rank 0 tells itself."""


def _as_one(name: str, subject: Subject) -> str:
    """Losses of single steps on two processes are those of one process."""
    strategy, tolerance = _STRATEGIES[name]
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        model = {"type": "pretrained", "path": str(subject.folder)}
        train: dict[str, Any] = {"model": model, "batch": _BATCH, "budget": f"{_LOSSES} steps"}
        alone = train_tiny(folder / "alone", **train).losses
        losses = _on_two(folder / "alone" / "spec.yaml", folder / "two", strategy)
    worst = max(abs(a - b) / abs(b) for a, b in zip(losses, alone, strict=True))
    assert worst < tolerance, f"losses {losses}, of one process {alone}"
    return f"within {worst:.0e}"


CHECKS: dict[str, Callable[[Subject], str]] = {name: partial(_as_one, name) for name in _STRATEGIES}


def _on_two(spec: Path, runs: Path, strategy: Mapping[str, Any]) -> list[float]:
    """The losses. Raises RunError where the run is refused, AssertionError where it breaks."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "OMP_NUM_THREADS": "1"}
    size = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2"}
    command = [sys.executable, "-m", __spec__.name, str(spec), str(runs), json.dumps(strategy)]
    ranks = [
        subprocess.Popen(
            command,
            env={**os.environ, **place, **size, "RANK": str(n), "LOCAL_RANK": str(n)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for n in range(2)
    ]
    try:
        told = [rank.communicate(timeout=_TIMEOUT) for rank in ranks]
    except subprocess.TimeoutExpired:
        raise AssertionError(f"no end after {_TIMEOUT:.0f} s") from None
    finally:
        for rank in ranks:
            rank.kill()
    answers = [_answer(out, error) for out, error in told]
    refused = [a["refused"] for a in answers if "refused" in a]
    if refused:
        raise RunError(next((r for r in refused if _OTHER not in r), refused[0]))
    losses: list[float] = answers[0]["losses"]
    return losses


def _answer(out: str, error: str) -> dict[str, Any]:
    lines = [line for line in out.splitlines() if line.startswith("{")]
    assert lines, error.strip().splitlines()[-1] if error.strip() else "ended without a word"
    answer: dict[str, Any] = json.loads(lines[-1])
    return answer


def main(spec: str, runs: str, strategy: str) -> None:
    """One rank: prints its losses, or why the engine refuses."""
    try:
        found: FinishedRun = run_spec(
            Path(spec), Path(runs), f"stages.base.train.strategy={strategy}"
        )
    except EngineError as error:
        sys.stdout.write(json.dumps({"refused": str(error)}) + "\n")
    else:
        sys.stdout.write(json.dumps({"losses": found.losses}) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
