"""What is right with a model on two processes: the first losses are those of one."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import yaml
from torch.distributed import TCPStore

from engine import RunError
from engine.testing import run_spec
from engine_lm.trials.fresh import Fresh
from engine_lm.trials.runs import trained
from engine_lm.trials.subject import Subject

_DEGREES = ("shard", "tensor", "pipeline", "context", "expert")
_STRATEGIES: Mapping[str, tuple[Mapping[str, Any], float]] = {
    **{name: ({"type": "mesh", name: 2}, 1e-5) for name in _DEGREES},
    "zero": ({"type": "zero", "stage": 3}, 1e-4),
}
_LOSSES = 3
_BATCH = {"tokens": 8 * 48, "sequence": 48}  # rows that two processes share evenly
_PATIENCE = 300.0
_OTHERS = re.compile("rank 0 failed|Connection (closed|reset) by peer")
"""What one rank says of another's failure, which that one explains."""


def _as_one(name: str, subject: Subject) -> str:
    """Losses of single steps on two processes are those of one process."""
    strategy, tolerance = _STRATEGIES[name]
    told, alone = _of_one(subject)
    with tempfile.TemporaryDirectory() as place:
        spec = Path(place, "spec.yaml")
        changed = yaml.safe_load(told)
        changed["stages"]["base"]["train"]["strategy"] = dict(strategy)
        spec.write_text(yaml.safe_dump(changed), encoding="utf-8")
        losses = _on_two(spec, Path(place, "runs"))
    worst = max(abs(a - b) / abs(b) for a, b in zip(losses, alone, strict=True))
    assert worst < tolerance, f"losses {losses}, of one process {alone}"
    return f"within {worst:.0e}"


@lru_cache(maxsize=1)
def _of_one(subject: Subject) -> tuple[str, list[float]]:
    """The spec of a run of one process, and its losses."""
    folder = subject.scratch / "one"
    losses = trained(folder, subject.folder, batch=_BATCH, budget=f"{_LOSSES} steps").losses
    return (folder / "spec.yaml").read_text(encoding="utf-8"), losses


CHECKS: dict[str, Callable[[Subject], str]] = {name: partial(_as_one, name) for name in _STRATEGIES}


def _on_two(spec: Path, runs: Path) -> list[float]:
    """The losses. Raises RunError where the run is refused, AssertionError where it breaks."""
    runs.mkdir()
    # Its port is taken before the ranks know of it, so that trials beside each other cannot clash.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    size = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "OMP_NUM_THREADS": "1"}
    ranks = [
        Fresh(
            _losses,
            spec,
            runs,
            log=runs / f"{rank}.log",
            environment=place | size | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    failures: list[Exception] = []
    losses: list[float] = []
    try:
        for rank in ranks:
            try:
                losses = rank.result(_PATIENCE)
            except (AssertionError, RunError) as error:
                failures.append(error)
    finally:
        for rank in ranks:
            rank.kill()
    if failures:
        # Where one refuses, the other may lose its connection.
        raise min(
            failures, key=lambda e: (bool(_OTHERS.search(str(e))), isinstance(e, AssertionError))
        )
    return losses


def _losses(spec: Path, runs: Path) -> list[float]:
    """Those of one rank."""
    return run_spec(spec, runs).losses
