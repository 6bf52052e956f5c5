"""Counts what makes a process wait for its device, also where there is none but the CPU."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes

_SIZED_BY_VALUES = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "unique_dim"}
"""Operations that give the host a value, or a tensor whose shape depends on values."""
_TO_HOST = {torch.Tensor.tolist, torch.Tensor.cpu, torch.Tensor.numpy}


class _Operations(TorchDispatchMode):
    """Counts what would wait for an accelerator, called from anywhere."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self._waits = waits

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        masked = name in ("index", "index_put_") and any(
            i is not None and i.dtype in (torch.bool, torch.uint8) for i in args[1]
        )
        if name in _SIZED_BY_VALUES or masked:
            self._waits[name] += 1
        return func(*args, **(kwargs or {}))


class _Calls(TorchFunctionMode):
    """Counts copies to the host, which on a CPU are no operation."""

    def __init__(self, waits: Counter[str]) -> None:
        super().__init__()
        self._waits = waits

    def __torch_function__(self, func, types, args=(), kwargs=None):
        if func in _TO_HOST:
            self._waits[func.__name__] += 1
        return func(*args, **(kwargs or {}))


_active = False


@contextmanager
def counted_waits(waits: Counter[str]) -> Iterator[None]:
    """Adds up, by operation; inside another of these the outer one counts."""
    global _active
    if _active:
        yield
        return
    _active = True
    try:
        with _Operations(waits), _Calls(waits):
            yield
    finally:
        _active = False


def uncounted(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function without what it does counting: it works on the host's own tensors."""

    def call(*arguments: Any, **named: Any) -> Any:
        with _disable_current_modes(), torch._C.DisableTorchFunction():
            return function(*arguments, **named)

    return call
