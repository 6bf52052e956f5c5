"""Accelerators by the names that ``nvidia-smi`` prints, with figures from their data sheets."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True, slots=True)
class Accelerator:
    """FLOP/s of dense matrix products: ``narrow`` in 16 bits on tensor cores with float32 accumulation,
    ``wide`` in float32 without TF32, which is torch's default. ``memory`` is in bytes."""

    narrow: float
    wide: float
    memory: float
    bf16: bool = True

    def peak(self, precision: str) -> float:
        """FLOP/s in this precision; float32's if the tensor cores lack bf16."""
        usable = precision == "fp16" or (precision == "bf16" and self.bf16)
        return self.narrow if usable else self.wide


ACCELERATORS = {
    "NVIDIA B200": Accelerator(2250e12, 75e12, 180e9),
    "NVIDIA H200": Accelerator(989e12, 67e12, 141e9),
    "NVIDIA H100 80GB HBM3": Accelerator(989e12, 67e12, 80e9),
    "NVIDIA H100 NVL": Accelerator(835e12, 60e12, 94e9),
    "NVIDIA H100 PCIe": Accelerator(756e12, 51e12, 80e9),
    "NVIDIA A100-SXM4-80GB": Accelerator(312e12, 19.5e12, 80e9),
    "NVIDIA A100-SXM4-40GB": Accelerator(312e12, 19.5e12, 40e9),
    "NVIDIA A100 80GB PCIe": Accelerator(312e12, 19.5e12, 80e9),
    "NVIDIA A100-PCIE-40GB": Accelerator(312e12, 19.5e12, 40e9),
    "NVIDIA L40S": Accelerator(362e12, 91.6e12, 48e9),
    "NVIDIA L40": Accelerator(181e12, 90.5e12, 48e9),
    "NVIDIA L4": Accelerator(121e12, 30.3e12, 24e9),
    "NVIDIA A40": Accelerator(149.7e12, 37.4e12, 48e9),
    "NVIDIA A10": Accelerator(125e12, 31.2e12, 24e9),
    "NVIDIA RTX A6000": Accelerator(154.8e12, 38.7e12, 48e9),
    "NVIDIA GeForce RTX 4090": Accelerator(165.2e12, 82.6e12, 24e9),
    "NVIDIA GeForce RTX 3090": Accelerator(71e12, 35.6e12, 24e9),
    "Tesla V100-SXM2-32GB": Accelerator(125e12, 15.7e12, 32e9, bf16=False),
    "Tesla V100-SXM2-16GB": Accelerator(125e12, 15.7e12, 16e9, bf16=False),
    "Tesla V100-PCIE-32GB": Accelerator(112e12, 14e12, 32e9, bf16=False),
    "Tesla V100-PCIE-16GB": Accelerator(112e12, 14e12, 16e9, bf16=False),
    "Tesla T4": Accelerator(65e12, 8.1e12, 16e9, bf16=False),
}
"""Speeds and memory by the name that nvidia-smi gives, matched as a whole: a part of one name may be
another device's name."""


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
