"""What a checkpoint saves, copied so that training can go on, and whether the disk has room for it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from engine.errors import RunError

_HEADROOM = 1.05  # of the tensors' bytes: DCP's metadata, and file-system blocks


def stage(value: Any, buffers: dict[str, torch.Tensor], *, copy: bool, path: str = "") -> Any:
    """Copies tensors into buffers that the next save uses again; allocating anew costs more."""
    if isinstance(value, Mapping):
        return {k: stage(v, buffers, copy=copy, path=f"{path}/{k}") for k, v in value.items()}
    if not isinstance(value, torch.Tensor) or not copy:
        return value
    value = value.detach()
    buffer = buffers.get(path)
    if buffer is None or buffer.shape != value.shape or buffer.dtype != value.dtype:
        buffers[path] = buffer = torch.empty_like(value, device="cpu")
    return buffer.copy_(value)


def size(value: Any) -> int:
    """Bytes of all tensors."""
    if isinstance(value, Mapping):
        return sum(size(v) for v in value.values())
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0


def check_space(folder: Path, needed: int) -> None:
    """Raises RunError unless so many bytes of tensors find room."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise RunError(f"checkpoint in {folder}: {error.strerror or error}") from error
    if free < needed * _HEADROOM:
        raise RunError(
            f"checkpoint in {folder}: needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            mend="free some space and run again: nothing is lost since the last checkpoint",
        )
