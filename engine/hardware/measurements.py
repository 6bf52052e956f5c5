"""Speeds measured on this machine, cached in a file for all runs.

A figure holds for a processor or accelerator, a version of torch, a number of threads and the
instructions that the environment forbids to torch's kernels; for others it is measured again. Delete
the file, ``engine/speeds.json`` in the user's cache folder, to measure everything again. What is
measured while other processes use the cores is kept for this process only.
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

from engine.files.reading import read_json
from engine.hardware.accelerators import accelerator

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
"""Environment variables that limit the instructions of kernels."""
_WAITING = 0.1
"""Largest share of a measurement that its threads may wait for cores which others use."""


def measured(
    names: Sequence[str], device: str, measure: Callable[[], Mapping[str, float]]
) -> dict[str, float]:
    """Figures by name, for all threads together: from the cache, or else from ``measure``.

    While others use the same cores, threads that wait for each other are up to a hundred times slower;
    then one thread is measured and its speed multiplied by the number of threads. A cache file that is
    damaged or cannot be written only means that speeds are measured again.
    """
    key = _cache_key(device)
    own = _measured_here(_file(), key)
    known = own if all(name in own for name in names) else {**_cached(key), **own}
    if all(name in known for name in names):
        return {name: known[name] for name in names}
    import torch

    several = torch.get_num_threads()
    started, waited = time.perf_counter(), _waited()
    found = measure()
    most = _WAITING * several * (time.perf_counter() - started)
    if device != "cpu" or _waited() - waited < most:
        _store(key, found)
    elif several > 1:
        torch.set_num_threads(1)
        try:
            found = {name: several * speed for name, speed in measure().items()}
        finally:
            torch.set_num_threads(several)
    own |= found
    return {name: found[name] for name in names}


@cache
def _measured_here(file: Path, key: str) -> dict[str, float]:
    """Figures that this process has measured; the caller adds to them."""
    return {}


def processor() -> str:
    """The processor's name and a checksum of its instructions."""
    fields = _cpus()[0] if _cpus() else {}
    name = fields.get("model name") or platform.processor() or platform.machine()
    flags = [fields.get(name, "") for name in ("flags", "Features", "CPU part")]
    return f"{name} {zlib.crc32(' '.join(flags).encode()):08x}"


def instructions() -> str:
    """The processor, and the environment's limits on the instructions of kernels."""
    limits = [f"{name}={os.environ[name]}" for name in _LIMITS if os.environ.get(name)]
    return ", ".join([processor(), *limits])


def threads() -> int:
    """Threads of one operation of torch: its own figure if it is imported, else the one that it will
    choose, OMP_NUM_THREADS or the number of physical cores."""
    torch = sys.modules.get("torch")
    if torch is not None:
        return int(torch.get_num_threads())
    limit = os.environ.get("OMP_NUM_THREADS", "")
    if limit.isdecimal() and int(limit):
        return int(limit)
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
    """Seconds that this process's threads have waited for a core; 0 if the system does not count."""
    nanoseconds = 0
    for file in _TASKS.glob("*/schedstat"):
        with contextlib.suppress(OSError, ValueError, IndexError):  # a thread that has ended
            nanoseconds += int(file.read_text(encoding="utf-8").split()[1])
    return nanoseconds / 1e9


def _cache_key(device: str) -> str:
    """The cache's key: everything that a figure depends on."""
    torch = f"torch {metadata.version('torch')}"
    if device != "cpu":
        return f"{_accelerator_name(device)}, {torch}"
    return ", ".join([instructions(), torch, f"{threads()} threads"])


def _accelerator_name(device: str) -> str:
    """The accelerator's name, from torch if it is imported, else from the driver."""
    torch, found = sys.modules.get("torch"), accelerator()
    if torch is not None and torch.cuda.is_available():
        return str(torch.cuda.get_device_name(device))
    return found[0] if found else "no accelerator"


def _cached(key: str) -> dict[str, float]:
    found = _read().get(key, {})
    return {n: float(v) for n, v in found.items() if isinstance(v, int | float) and v >= 0}


def _store(key: str, found: Mapping[str, float]) -> None:
    figures, file = _read(), _file()
    figures[key] = {**figures.get(key, {}), **found}
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
        cached = read_json(_file())
    except (OSError, ValueError):
        return {}
    if not isinstance(cached, dict):
        return {}
    return {key: figures for key, figures in cached.items() if isinstance(figures, dict)}


def _file() -> Path:
    folder = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(folder) / "engine" / "speeds.json"
