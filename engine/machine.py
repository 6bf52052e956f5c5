"""What this machine has for training: memory and speed of a process, found without torch."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_MEMINFO = Path("/proc/meminfo")
_CPUINFO = Path("/proc/cpuinfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")
_PEAKS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100": 989e12,
    "L40S": 362e12,
    "A100": 312e12,
    "4090": 165e12,
    "V100": 125e12,
    "L4": 121e12,
    "3090": 71e12,
    "T4": 65e12,
}
"""Dense FLOPs a second in 16 bits, from the makers' data sheets."""
_OTHER_PEAK = 100e12
_UTILISATION = 0.4
"""Share of the peak that training reaches: PaLM's 46 %, Llama 3's 38 to 43 %, less in small."""
_WIDE = 8
"""How much slower float32 is on accelerators."""
_NARROW_CPUS = {"amx_bf16": 8, "avx512_bf16": 4}
"""How much faster bf16 products are than float32 ones on a CPU, by the instructions it has: torch's
took 912 GFLOPS on two Zen 5 cores, numpy's in float32 248."""
_BANDWIDTHS = {"cpu": 1e9, "cuda": 50e9}
"""Bytes a second from process to process: gloo on one machine, NCCL between eight devices."""
_LATENCIES = {"cpu": 1e-3, "cuda": 5e-5}
"""Seconds a message, torch's own work for it included: 33 of them made a step 60 ms longer on two
busy cores."""
_BALANCES = {"cpu": 100, "cuda": 4000}


@dataclass(frozen=True, slots=True)
class Machine:
    """What each of ``processes`` here has: ``memory`` in bytes, and where ``assumed_speed`` is
    given so many FLOPs a second."""

    device: str
    name: str
    memory: float
    processes: int = 1
    assumed_speed: float | None = None

    @classmethod
    def here(cls, processes: int) -> Machine:
        """This machine, with so many processes, each on an accelerator of its own if it has any."""
        found = _accelerator()
        if found:
            return cls("cuda", *found, processes)
        cores = os.cpu_count() or 1
        return cls("cpu", f"{cores} CPU cores", memory_here() / processes, processes)

    @property
    def bandwidth(self) -> float:
        """Bytes a second from a process to another."""
        return _BANDWIDTHS[self.device]

    @property
    def latency(self) -> float:
        """Seconds until a message between two processes starts."""
        return _LATENCIES[self.device]

    @property
    def balance(self) -> float:
        """FLOPs that a process executes while it sends a byte, roughly."""
        return _BALANCES[self.device]

    def speed(self, precision: str) -> float:
        """FLOPs a second that a process executes in training: right to a factor of two."""
        if self.assumed_speed is not None:
            return self.assumed_speed
        wide = precision == "fp32"
        if self.device == "cuda":
            peak = next((p for part, p in _PEAKS.items() if part in self.name), _OTHER_PEAK)
            return _UTILISATION * (peak / _WIDE if wide else peak)
        flags = "" if wide else _text(_CPUINFO)
        faster = next((times for flag, times in _NARROW_CPUS.items() if flag in flags), 1)
        return _UTILISATION * faster * _product_speed() / self.processes


def memory_here() -> float:
    """Bytes of memory of this machine, or of the container around this process."""
    total = float("inf")
    with contextlib.suppress(IndexError, ValueError):
        total = 1024 * float(_text(_MEMINFO).split("MemTotal:")[1].split()[0])
    with contextlib.suppress(ValueError):
        total = min(total, float(_text(_LIMIT)))
    return total


@cache
def _accelerator() -> tuple[str, float] | None:
    """Name and bytes of the smallest one that this process may use."""
    if shutil.which("nvidia-smi") is None or os.environ.get("CUDA_VISIBLE_DEVICES") == "":
        return None
    query = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        told = subprocess.run(query, capture_output=True, text=True, check=True, timeout=20).stdout
        rows = [line.rsplit(",", 1) for line in told.splitlines() if line]
        return min(((name, 2**20 * float(size)) for name, size in rows), key=lambda row: row[1])
    except (OSError, ValueError, subprocess.SubprocessError):
        return None


@cache
def _product_speed() -> float:
    """FLOPs a second of a float32 matrix product on all cores, the best of a few: 0.1 s."""
    import numpy as np

    size = 1024
    matrix = np.ones((size, size), dtype=np.float32)
    best = float("inf")
    for _ in range(8):
        started = time.perf_counter()
        matrix @ matrix
        best = min(best, time.perf_counter() - started)
    return 2 * size**3 / best


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
