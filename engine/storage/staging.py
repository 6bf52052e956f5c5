"""Copies of a checkpoint's tensors, so that training continues during a save, and the check for free
disk space."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from engine.errors import RunError

_HEADROOM = 1.05  # factor on the tensors' bytes, for DCP's metadata and file-system blocks


def stage(value: Any, buffers: dict[str, torch.Tensor], *, copy: bool, path: str = "") -> Any:
    """Copies nested tensors into CPU ``buffers``, reused by the next save since allocation is slower;
    with ``copy=False`` returns ``value`` itself."""
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
    """Bytes of all tensors in a nested value."""
    if isinstance(value, Mapping):
        return sum(size(v) for v in value.values())
    return value.numel() * value.element_size() if isinstance(value, torch.Tensor) else 0


def check_space(folder: Path, needed: int) -> None:
    """Raises RunError unless ``needed`` bytes of tensors fit on the folder's disk."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(folder).free
    except OSError as error:
        raise RunError(f"checkpoint in {folder}: {error.strerror or error}") from error
    if free < needed * _HEADROOM:
        raise RunError(
            f"checkpoint in {folder}: needs {needed / 1e6:.0f} MB, {free / 1e6:.0f} MB are free",
            hint="free some space and run again: the last checkpoint is intact",
        )
