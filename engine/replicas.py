"""Finds a flipped bit: copies of the same state on several ranks must be the same to the bit.

Where nothing has a copy, one micro-batch is computed twice instead. Silent faults of memory and
processors are met about once in a week of a thousand accelerators (Llama team 2024, section 3.3).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from engine.component import Batch, Strategy
from engine.launch import Process
from engine.terms import counts

_NUMBER = " (a number)"
"""Ends the names of tensors without dimensions."""
_NAMED = 3
"""Differences that are told."""


def find_fault(strategy: Strategy, probe: Sequence[Batch], process: Process) -> str | None:
    """What is wrong, the same on every rank, or None; collective. Gradients are lost."""
    held = dict(_digests(strategy.state()))
    gathered: list[dict[str, str]] = process.gather(held)
    # Every rank counts steps; that alone is no copy of the weights.
    held_by = Counter(key for one in gathered for key in one if not key.endswith(_NUMBER))
    told = "; ".join(_differences(gathered)) if gathered else ""
    copied, told = process.broadcast((max(held_by.values(), default=0) > 1, told))
    if copied or told:
        return told or None
    figures = [_computed(strategy, probe) for _ in range(2)]
    differ = process.gather(figures[0] != figures[1])
    ranks = [rank for rank, wrong in enumerate(differ) if wrong]
    names = process.broadcast(_ranks(ranks) if ranks else "")
    return f"{names} computed one micro-batch twice, and not alike" if names else None


def _computed(strategy: Strategy, probe: Sequence[Batch]) -> list[str]:
    torch.manual_seed(0)
    sums = strategy.forward_backward(probe, counts(probe))
    return [_digest(value) for _, value in sorted(sums.items())]


def _digests(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Of every tensor of a state, by its name and, where it is cut up, the place of the part."""
    if isinstance(value, Mapping):
        for key, part in value.items():
            yield from _digests(part, f"{path}/{key}" if path else str(key))
    elif isinstance(value, DTensor):
        places = value.device_mesh.get_coordinate() or ()
        cut = [
            place
            for place, placement in zip(places, value.placements, strict=True)
            if not placement.is_replicate()
        ]
        yield f"{path} {cut}" if cut else path, _digest(value.to_local())
    elif isinstance(value, Tensor):
        yield f"{path}{'' if value.dim() else _NUMBER}", _digest(value)


def _digest(tensor: Tensor) -> str:
    flat = tensor.detach().contiguous().flatten().cpu()
    return hashlib.blake2b(flat.view(torch.uint8).numpy().tobytes(), digest_size=16).hexdigest()


def _differences(gathered: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Which rank holds what otherwise than most do; two that differ are both named."""
    differ = 0
    for key in dict.fromkeys(key for one in gathered for key in one):
        ranks: dict[str, list[int]] = defaultdict(list)
        for rank, one in enumerate(gathered):
            if key in one:
                ranks[one[key]].append(rank)
        if len(ranks) == 1:
            continue
        differ += 1
        if differ <= _NAMED:
            *few, most = sorted(ranks.values(), key=len)
            tied = len(few[-1]) == len(most)
            wrong = sorted(r for group in ([*few, most] if tied else few) for r in group)
            yield f"{key}: {_ranks(wrong)} differ{'' if len(wrong) > 1 else 's'}"
    if differ > _NAMED:
        yield f"and {differ - _NAMED} more"


def _ranks(ranks: Sequence[int]) -> str:
    *others, last = map(str, ranks)
    return f"ranks {', '.join(others)} and {last}" if others else f"rank {last}"
