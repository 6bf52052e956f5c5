"""Saves checkpoints in forked children that kill themselves at one point of the save.

    python killed_saves.py FOLDER

Prints, for each point, the value that is loaded afterwards.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from engine.storage import checkpoints as checkpoint
from engine.storage.checkpoints import Checkpoints

POINTS = {
    "while tensors are written": ("dcp.save", "before"),
    "before the manifest": ("manifest.checksums", "before"),
    "after the checksums": ("manifest.checksums", "after"),
    "before the rename": ("os.replace", "before"),
    "after the manifest's rename": ("os.replace", "after"),
    "before the folder is synced": ("manifest.sync_folder", "before"),
    "while the old one is removed": ("shutil.rmtree", "before"),
    "after the old one is removed": ("shutil.rmtree", "after"),
}


def main(folder: Path) -> None:
    found = {}
    for point, (name, when) in POINTS.items():
        here = folder / point.replace(" ", "-")
        _in_child(lambda here=here: _save(here, 1))
        _in_child(lambda here=here, name=name, when=when: _killed(here, name, when))
        first = _loaded(here)
        _in_child(lambda here=here: _save(here, 3))
        found[point] = [first, _loaded(here)]
    print(json.dumps(found))


def _save(folder: Path, value: int) -> None:
    checkpoints = Checkpoints(folder, keep=1, background=False)
    checkpoints.save(_tensors(value), {"value": value}, step=value, score=None)
    checkpoints.close()


def _killed(folder: Path, name: str, when: str) -> None:
    """Saves value 2, and dies at the first call of a function, before or after it."""
    checkpoints = Checkpoints(folder, keep=1, background=False)
    module, _, attribute = name.rpartition(".")
    owner = getattr(checkpoint, module) if module else checkpoint
    real: Callable[..., Any] = getattr(owner, attribute)

    def deadly(*arguments: Any, **options: Any) -> Any:
        if when == "after":
            real(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, attribute, deadly)
    checkpoints.save(_tensors(2), {"value": 2}, step=2, score=None)


def _loaded(folder: Path) -> int:
    checkpoints = Checkpoints(folder, keep=1, background=False)
    latest = checkpoints.latest()
    assert latest is not None
    tensors = _tensors(0)
    state = checkpoints.load(latest, tensors)
    assert torch.equal(tensors["a"], _tensors(state["value"])["a"])
    value: int = state["value"]
    return value


def _tensors(value: int) -> dict[str, Any]:
    return {"a": torch.full((1000,), float(value)), "b": {"c": torch.arange(10) * value}}


def _in_child(work: Callable[[], None]) -> None:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        finally:
            os._exit(status)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)


if __name__ == "__main__":
    shutil.rmtree(sys.argv[1], ignore_errors=True)
    main(Path(sys.argv[1]))
