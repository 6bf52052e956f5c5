"""Figures that were measured on this machine, remembered in a file for all runs.

They hold for a processor or an accelerator, a version of torch, a number of threads, and what the
environment forbids torch's kernels to use; anything else is measured anew. Whoever deletes the
file, ``engine/speeds.json`` in the user's folder of caches, has everything measured again.
What is measured while others work on the same cores is for this process only.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

from engine.accelerators import accelerator

_CPUINFO = Path("/proc/cpuinfo")
_TASKS = Path("/proc/self/task")
_LIMITS = (
    "ATEN_CPU_CAPABILITY",
    "DNNL_DEFAULT_FPMATH_MODE",
    "DNNL_MAX_CPU_ISA",
    "MKL_CBWR",
    "MKL_DEBUG_CPU_TYPE",
    "MKL_ENABLE_INSTRUCTIONS",
    "ONEDNN_DEFAULT_FPMATH_MODE",
    "ONEDNN_MAX_CPU_ISA",
    "OPENBLAS_CORETYPE",
)
"""Variables that say which instructions kernels may use."""
_WAITING = 0.1
"""Share of a measurement that its threads may wait for a core that others have."""


def measured(
    names: Sequence[str], device: str, measure: Callable[[], Mapping[str, float]]
) -> dict[str, float]:
    """Figures by name, speeds of all threads: as remembered, or else what ``measure`` finds.

    Where others work on the same cores, threads that wait for each other are up to a hundred times
    slower; then one thread is measured alone and counted as often as there are threads. A file that
    is damaged or cannot be written is no error: one measures again.
    """
    place = _place(device)
    here = _here(_file(), place)
    known = here if all(name in here for name in names) else {**_kept(place), **here}
    if all(name in known for name in names):
        return {name: known[name] for name in names}
    import torch

    several = torch.get_num_threads()
    started, waited = time.perf_counter(), _waited()
    found = measure()
    most = _WAITING * several * (time.perf_counter() - started)
    if device != "cpu" or _waited() - waited < most:
        _keep(place, found)
    elif several > 1:
        torch.set_num_threads(1)
        try:
            found = {name: several * speed for name, speed in measure().items()}
        finally:
            torch.set_num_threads(several)
    here |= found
    return {name: found[name] for name in names}


@cache
def _here(file: Path, place: str) -> dict[str, float]:
    """What this process has measured, to be added to."""
    return {}


def processor() -> str:
    """The model's name and a checksum of its instructions."""
    fields = _cpus()[0] if _cpus() else {}
    name = fields.get("model name") or platform.processor() or platform.machine()
    told = [fields.get(name, "") for name in ("flags", "Features", "CPU part")]
    return f"{name} {zlib.crc32(' '.join(told).encode()):08x}"


def instructions() -> str:
    """The processor, and what the environment forbids kernels to use of it."""
    limits = [f"{name}={os.environ[name]}" for name in _LIMITS if os.environ.get(name)]
    return ", ".join([processor(), *limits])


def threads() -> int:
    """Threads of one of torch's operations: as torch says where it is imported already, or as it
    will: one for each physical core."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    told = os.environ.get("OMP_NUM_THREADS", "")
    if told.isdecimal() and int(told):
        return int(told)
    mine = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    cores = {
        (cpu.get("physical id"), cpu.get("core id", cpu["processor"]))
        for cpu in _cpus()
        if mine is None or int(cpu["processor"]) in mine
    }
    return len(cores) or os.cpu_count() or 1


def _cpus() -> list[dict[str, str]]:
    """Fields of each logical processor."""
    try:
        blocks = _CPUINFO.read_text(encoding="utf-8").split("\n\n")
    except OSError:
        return []
    pairs = ([line.partition(":") for line in block.splitlines()] for block in blocks)
    cpus = [{name.strip(): value.strip() for name, _, value in block} for block in pairs]
    return [cpu for cpu in cpus if cpu.get("processor", "").isdecimal()]


def _waited() -> float:
    """Seconds that this process's threads have waited for a core; 0 where the system does not say."""
    told = 0
    for file in _TASKS.glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that has ended
            told += int(file.read_text(encoding="utf-8").split()[1])
    return told / 1e9


def _place(device: str) -> str:
    """What figures hold for, in words."""
    torch = f"torch {metadata.version('torch')}"
    if device != "cpu":
        return f"{_accelerator_name(device)}, {torch}"
    return ", ".join([instructions(), torch, f"{threads()} threads"])


def _accelerator_name(device: str) -> str:
    """As torch says where it is imported already, or else the driver."""
    torch, found = sys.modules.get("torch"), accelerator()
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(device))
    return found[0] if found else "no accelerator"


def _kept(place: str) -> dict[str, float]:
    found = _read().get(place, {})
    return {n: float(v) for n, v in found.items() if isinstance(v, int | float) and v >= 0}


def _keep(place: str, found: Mapping[str, float]) -> None:
    figures, file = _read(), _file()
    figures[place] = {**figures.get(place, {}), **found}
    with contextlib.suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        handle, partial = tempfile.mkstemp(dir=file.parent, prefix=f"{file.name}.")
        try:
            with open(handle, "w", encoding="utf-8") as out:
                json.dump(figures, out, indent=1)
            os.replace(partial, file)
        finally:
            Path(partial).unlink(missing_ok=True)


def _read() -> dict[str, dict[str, Any]]:
    try:
        told = json.loads(_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in told.items() if isinstance(v, dict)} if isinstance(told, dict) else {}


def _file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "engine" / "speeds.json"
