"""Accelerators: which one this machine has, and what data sheets and price lists say of them.

The table stands in ``accelerators.yaml`` beside this module. A user's file in the same form adds others
or gives other values for known ones, such as an own price.
"""

from __future__ import annotations

import difflib
import os
import shutil
import subprocess
from collections.abc import Mapping
from functools import cache
from pathlib import Path

from engine.errors import SpecError, nearest
from engine.hardware.accelerator_table import Accelerator, read_table

_TABLE = Path(__file__).with_suffix(".yaml")


def accelerators(more: Path | None = None) -> Mapping[str, Accelerator]:
    """The table by whole names; with the entries of a user's file, if given.

    An entry of the file for a known name replaces only the figures that it has. Raises SpecError with
    every fault of the file and its line.
    """
    return _table() if more is None else {**_table(), **read_table(more, _table())}


def find_accelerator(name: str, more: Path | None = None) -> Accelerator:
    """The accelerator of this name or alias, matched as a whole: a part of one name may be another
    device's name. Raises SpecError."""
    table = accelerators(more)
    for one in table.values():
        if name in (one.name, *one.aliases):
            return one
    names = [alias for one in table.values() for alias in (one.name, *one.aliases)]
    near = ", ".join(f"'{one}'" for one in difflib.get_close_matches(name, names, 3, 0))
    raise SpecError(
        f"no data sheet of '{name}' is known{nearest(name, names)}",
        hint=f"near it are {near}; all are in {_TABLE}; --accelerators FILE adds others",
    )


@cache
def _table() -> Mapping[str, Accelerator]:
    return read_table(_TABLE, {})


@cache
def accelerator() -> tuple[str, float] | None:
    """Name and memory in bytes of the visible accelerator with least memory; None without one."""
    if shutil.which("nvidia-smi") is None or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return None
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20)
        rows = [line.rsplit(",", 1) for line in found.stdout.splitlines() if line]
        return min(((name, 2**20 * float(size)) for name, size in rows), key=lambda row: row[1])
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
