"""Detects flipped bits: copies of the same state on several ranks must be bit-identical.

If no state has a copy, one micro-batch is computed twice instead. Silent faults of memory and
processors occur about once a week in a thousand accelerators (Llama team 2024, section 3.3).
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.distributed.tensor import DTensor

from engine.contracts.batch import Batch
from engine.contracts.strategy import Strategy
from engine.errors import RunError
from engine.processes.process import Process
from engine.training.loss_terms import counts

_NUMBER = " (a number)"
"""Suffix of the names of tensors without dimensions."""
_NAMED = 3
"""Differences that the message lists."""


def silent_fault(stage: str, step: int, sound_at: int, wrong: str) -> RunError:
    """The error that ends training on a machine that computes wrongly."""
    return RunError(
        f"{stage}: silent fault at step {step} (none at {sound_at}): {wrong}",
        hint="memory or a processor there is faulty; run again without that machine to resume from "
        "before the fault",
    )


def find_fault(strategy: Strategy, probe: Sequence[Batch], process: Process) -> str | None:
    """What is wrong, the same on every rank, or None; collective. Gradients are lost."""
    held = dict(_digests(strategy.state()))
    gathered: list[dict[str, str]] = process.gather(held)
    # Step counters are equal on all ranks, but are not copies of weights.
    held_by = Counter(key for one in gathered for key in one if not key.endswith(_NUMBER))
    wrong = "; ".join(_differences(gathered)) if gathered else ""
    copied, wrong = process.broadcast((max(held_by.values(), default=0) > 1, wrong))
    if copied or wrong:
        return wrong or None
    figures = [_computed(strategy, probe) for _ in range(2)]
    differ = process.gather(figures[0] != figures[1])
    ranks = [rank for rank, differs in enumerate(differ) if differs]
    names = process.broadcast(_ranks(ranks) if ranks else "")
    return f"{names} computed one micro-batch twice, with different results" if names else None


def _computed(strategy: Strategy, probe: Sequence[Batch]) -> list[str]:
    torch.manual_seed(0)
    sums = strategy.forward_backward(probe, counts(probe))
    return [_digest(value) for _, value in sorted(sums.items())]


def _digests(value: Any, path: str = "") -> Iterator[tuple[str, str]]:
    """Digests of a state's tensors, by name and, for a sharded tensor, the shard's coordinates."""
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
    """Tensors with the ranks that differ from the majority; all ranks in a tie."""
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
