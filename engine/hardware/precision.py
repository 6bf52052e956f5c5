"""Chooses the precision for ``auto`` on this machine, and checks one that a user chose.

bf16 if the device has instructions for its products, fp32 on other CPUs, fp16 on older GPUs: on two
cores with AVX2 only, torch's bf16 products run at a tenth of the speed of fp32.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from engine.contracts.component import Precision
from engine.errors import SpecError
from engine.hardware.products import product_speeds

if TYPE_CHECKING:
    import torch

AUTO = "auto"
"""Leaves the choice to the engine, which makes it when a stage begins."""
FORCED = "ENGINE_PRECISION"
"""Environment variable that overrides the engine's choice for ``auto``."""
_CPUINFO = Path("/proc/cpuinfo")
_NARROW_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Linux's names of the bf16 instructions of Intel, AMD and ARM NEON."""
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Environment variables that may forbid instructions to a process."""
_BF16_CAPABILITY = (8, 0)
"""Compute capability of the first CUDA devices with bf16 instructions (Ampere)."""
_WORTH_TELLING = 1.2
"""Ratio of measured speeds from which one precision counts as faster."""


def resolved(precision: str, device: torch.device | str) -> Precision:
    """The precision itself, or the one that ``auto`` means for a ``device``. Raises SpecError."""
    return best(device) if precision == AUTO else _named(precision)


def best(device: torch.device | str) -> Precision:
    """The precision in which training is fastest without loss of quality. Raises SpecError for an
    invalid ``ENGINE_PRECISION``."""
    if forced := os.environ.get(FORCED):
        return _named(forced)
    if _type(device) == "cuda":
        return "bf16" if _capability(device) >= _BF16_CAPABILITY else "fp16"
    flags = _flags()
    if flags is None or any(name in os.environ for name in _LIMITS):
        return "bf16" if gain("bf16", "fp32", device) > _WORTH_TELLING else "fp32"
    return "bf16" if flags & _NARROW_FLAGS else "fp32"


def cannot(precision: Precision, device: torch.device | str) -> str | None:
    """Why the device cannot multiply in this precision, or None."""
    if precision == "bf16" and _type(device) == "cuda":
        capability = _capability(device)
        if capability < _BF16_CAPABILITY:
            least = ".".join(map(str, _BF16_CAPABILITY))
            have = ".".join(map(str, capability))
            return f"bf16 needs compute capability {least}, and this GPU has {have}"
    return None


def gain(precision: Precision, other: Precision, device: torch.device | str) -> float:
    """Measured speed of products in ``precision``, as a multiple of that in ``other``."""
    speeds = product_speeds([precision, other], _type(device))
    return speeds[precision] / speeds[other]


def advice(precision: Precision, device: torch.device | str) -> str | None:
    """A clause that names a faster precision with the measured ratio, or None."""
    other = best(device)
    if precision == other:
        return None
    faster = gain(other, precision, device)
    if faster < _WORTH_TELLING:
        return None
    return f"products in {other} are measured to be {faster:.2g} times faster on this machine"


def _named(precision: str) -> Precision:
    for known in get_args(Precision):
        if precision == known:
            return known  # type: ignore[no-any-return]
    choices = ", ".join(get_args(Precision))
    raise SpecError(f"'{precision}' is not a precision; choose one of: {choices}")


def _type(device: torch.device | str) -> str:
    return str(device).split(":")[0]


def _capability(device: torch.device | str) -> tuple[int, int]:
    import torch

    if not torch.cuda.is_available():  # a planned device: assume one from 2020 or later
        return _BF16_CAPABILITY
    return torch.cuda.get_device_capability(device)


def _flags() -> frozenset[str] | None:
    """The processor's instruction flags; None if they cannot be read."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    names = ("flags", "Features")  # on x86, on ARM
    flags = next(
        (line for line in lines if line.split("\t")[0].split(":")[0].strip() in names), None
    )
    return None if flags is None else frozenset(flags.split(":", 1)[1].split())
