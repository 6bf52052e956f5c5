"""Chooses the device of a process, and checks that all ranks have devices of one kind."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from engine.errors import RunError

if TYPE_CHECKING:
    import torch

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_NONE = {"-1", "NoDevFiles"}
"""Values of ``CUDA_VISIBLE_DEVICES`` that hide every GPU, beside the empty one."""
_DRIVER_FILES = (Path("/dev/nvidiactl"), Path("/proc/driver/nvidia/version"))


@dataclass(frozen=True, slots=True)
class Described:
    """A rank's device: its ``kind``, such as the GPU's name, and its identity (empty for a CPU)."""

    kind: str
    identity: str


def device_of(local_rank: int) -> torch.device:
    """The GPU of the process with this number on its machine, or the CPU if there is no GPU.

    If a scheduler shows each process a GPU of its own, that GPU is number 0. Raises RunError if the
    process has no GPU while others have, or if torch cannot use the GPUs.
    """
    import torch

    shown = os.environ.get(_VISIBLE)
    if torch.cuda.is_available():
        count = torch.cuda.device_count()
        if local_rank < count:
            return torch.device("cuda", local_rank)
        if count == 1 and shown:
            return torch.device("cuda", 0)
        raise RunError(
            f"process {local_rank} of this machine has no GPU: torch finds {count}"
            + (f" with {_VISIBLE}={shown}" if shown else ""),
            hint=f"start {count} processes here, or make more GPUs visible",
        )
    named = bool(shown) and shown not in _NONE
    if named or (shown is None and _has_driver() and torch.version.cuda):
        what = f"{_VISIBLE}={shown} names a GPU" if named else "this machine has an NVIDIA driver"
        raise RunError(
            f"{what}, but torch finds none: {_why_none()}",
            hint="`nvidia-smi -L` lists the GPUs that the driver knows, and an older driver needs a"
            f" torch built for an older CUDA; `{_VISIBLE}= engine run …` trains on the CPU",
        )
    return torch.device("cpu")


def remark(device: torch.device) -> str | None:
    """Why an accelerator of this machine is not used, or None."""
    import torch

    if device.type == "cpu" and torch.backends.mps.is_available():
        return "Apple's GPU is not used: training runs on the CPU"
    if device.type == "cpu" and _has_driver() and not torch.version.cuda:
        return "this torch is built for CPUs and does not use the NVIDIA GPU here"
    return None


def describe(device: torch.device) -> Described:
    """A description of the device for :func:`check_alike`."""
    import torch

    host = socket.gethostname()
    if device.type != "cuda":
        return Described("CPU", "")
    found = torch.cuda.get_device_properties(device)
    return Described(found.name, f"{host} {getattr(found, 'uuid', device.index)}")


def check_alike(ranks: Sequence[Described]) -> None:
    """Raises RunError if ranks have devices of several kinds, or two of them share a GPU."""
    kinds: dict[str, list[int]] = {}
    for rank, described in enumerate(ranks):
        kinds.setdefault(described.kind, []).append(rank)
    if len(kinds) > 1:
        listed = "; ".join(f"{kind}: rank {_few(found)}" for kind, found in kinds.items())
        raise RunError(
            f"the ranks have devices of different kinds ({listed})",
            hint="start them on machines of one kind: the slowest sets the pace, and numbers differ",
        )
    shared, count = Counter(described.identity for described in ranks).most_common(1)[0]
    if shared and count > 1:
        both = [rank for rank, described in enumerate(ranks) if described.identity == shared]
        raise RunError(
            f"rank {_few(both)} share one GPU ({shared})",
            hint="start one process a GPU; LOCAL_RANK must count the processes of a machine",
        )


def takes_bounds(device: torch.device) -> bool:
    """Whether torch has variable-length attention on the device (FlashAttention-2)."""
    if device.type != "cuda":
        return False
    import torch

    return torch.cuda.get_device_capability(device) >= (8, 0)


def peak_memory(device: torch.device) -> int:
    """Peak of bytes allocated on a GPU since :func:`forget_peak`; on a CPU, the process's peak
    resident memory in bytes."""
    if device.type == "cuda":
        import torch

        return torch.cuda.max_memory_allocated(device)
    import resource
    import sys

    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


def forget_peak(device: torch.device) -> None:
    """Resets the peak of a GPU; a CPU's cannot be reset."""
    if device.type == "cuda":
        import torch

        torch.cuda.reset_peak_memory_stats(device)


def _has_driver() -> bool:
    return any(file.exists() for file in _DRIVER_FILES)


def _why_none() -> str:
    """The first line of torch's own reason."""
    import torch

    try:
        torch.cuda.init()
    except (RuntimeError, AssertionError) as error:
        return str(error).splitlines()[0].rstrip(".")
    return "it gives no reason"


def _few(ranks: Sequence[int]) -> str:
    shown = ", ".join(map(str, ranks[:4]))
    return f"{shown} and {len(ranks) - 4} more" if len(ranks) > 4 else shown
