"""Reads scalars from a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch


def read_scalars(*groups: Mapping[str, Any]) -> list[dict[str, float]]:
    """Scalar tensors or numbers as floats, in one copy from the device, because each copy makes the
    process wait."""
    scalars = [torch.as_tensor(value) for group in groups for value in group.values()]
    device = next((s.device for s in scalars if s.device.type != "cpu"), torch.device("cpu"))
    moved = [s.detach().to(device, torch.float64, non_blocking=True).reshape(()) for s in scalars]
    found = iter(torch.stack(moved).tolist())
    return [{name: next(found) for name in group} for group in groups]
