"""Which precision ``auto`` means on this machine, and what of a precision that somebody wrote.

bf16 where the device has instructions for its products, fp32 on other CPUs, fp16 on older GPUs: on two
cores with AVX2 alone, torch's bf16 products run at a tenth of the speed of its fp32 ones.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, get_args

from engine.errors import SpecError
from engine.products import Precision, product_speed

if TYPE_CHECKING:
    import torch

AUTO = "auto"
"""The machine's choice, made when a stage begins."""
FORCED = "ENGINE_PRECISION"
"""Environment variable that says what ``auto`` means, whatever the machine."""
_CPUINFO = Path("/proc/cpuinfo")
_NARROW_FLAGS = frozenset({"amx_bf16", "avx512_bf16", "bf16"})
"""Intel's and AMD's, and that of ARM's NEON, as Linux names them."""
_LIMITS = ("ONEDNN_MAX_CPU_ISA", "DNNL_MAX_CPU_ISA", "ATEN_CPU_CAPABILITY")
"""Variables by which a process may be told to leave instructions unused."""
_BF16_CAPABILITY = (8, 0)
"""Of the first CUDA devices with instructions for bf16 (Ampere)."""
_WORTH_TELLING = 1.2
"""Ratio of measured speeds from which one precision counts as the faster one."""


def resolved(precision: str, device: torch.device | str) -> Precision:
    """The precision as written, or the one that ``auto`` means for a ``device``."""
    return best(device) if precision == AUTO else _named(precision)


def best(device: torch.device | str) -> Precision:
    """The precision in which training is fastest at no loss of quality. Raises SpecError for a value
    of ``ENGINE_PRECISION`` that is none."""
    if forced := os.environ.get(FORCED):
        return _named(forced)
    if _type(device) == "cuda":
        return "bf16" if _capability(device) >= _BF16_CAPABILITY else "fp16"
    flags = _flags()
    if flags is None or any(name in os.environ for name in _LIMITS):
        return "bf16" if gain("bf16", "fp32", device) > _WORTH_TELLING else "fp32"
    return "bf16" if flags & _NARROW_FLAGS else "fp32"


def cannot(precision: Precision, device: torch.device | str) -> str | None:
    """Why the device has no such products, or None."""
    if precision == "bf16" and _type(device) == "cuda":
        capability = _capability(device)
        if capability < _BF16_CAPABILITY:
            least = ".".join(map(str, _BF16_CAPABILITY))
            have = ".".join(map(str, capability))
            return f"bf16 needs compute capability {least}, and this GPU has {have}"
    return None


def gain(precision: Precision, other: Precision, device: torch.device | str) -> float:
    """How many times faster the first's products are measured to be than the other's."""
    return product_speed(precision, _type(device)) / product_speed(other, _type(device))


def advice(precision: Precision, device: torch.device | str) -> str | None:
    """That another precision would be faster here, with the measured ratio; or None."""
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
    raise SpecError(f"'{precision}' is no precision: {', '.join(get_args(Precision))}")


def _type(device: torch.device | str) -> str:
    return str(device).split(":")[0]


def _capability(device: torch.device | str) -> tuple[int, int]:
    import torch

    if not torch.cuda.is_available():  # planned for, and not to be asked: as all are since 2020
        return _BF16_CAPABILITY
    return torch.cuda.get_device_capability(device)


def _flags() -> frozenset[str] | None:
    """The instructions that the processor says it has; None where it cannot be asked."""
    try:
        lines = _CPUINFO.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    names = ("flags", "Features")  # on x86, on ARM
    told = next(
        (line for line in lines if line.split("\t")[0].split(":")[0].strip() in names), None
    )
    return None if told is None else frozenset(told.split(":", 1)[1].split())
