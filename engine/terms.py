"""A step's terms: how many there are of each kind, and what they come to on average."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from engine.component import Batch


def counts(micro_batches: Sequence[Batch]) -> dict[str, float]:
    """Terms of each kind and input tokens, over the micro-batches; none of stand-ins."""
    totals: Counter[str] = Counter()
    for batch in micro_batches:
        for name, count in batch.counts.items():
            totals[name] += count if batch.tokens else 0
        totals["tokens"] += batch.tokens
    return {name: float(count) for name, count in totals.items()}


def read(*groups: Mapping[str, Any]) -> list[dict[str, float]]:
    """Scalars in tensors, or plain ones, as numbers: all in one copy, as each makes the process wait
    for its device."""
    scalars = [torch.as_tensor(value) for group in groups for value in group.values()]
    device = next((s.device for s in scalars if s.device.type != "cpu"), torch.device("cpu"))
    moved = [s.detach().to(device, torch.float64, non_blocking=True).reshape(()) for s in scalars]
    found = iter(torch.stack(moved).tolist())
    return [{name: next(found) for name in group} for group in groups]


def means(sums: Mapping[str, float], counts: Mapping[str, float]) -> dict[str, float]:
    """The loss, its terms where there are several, and what is only measured.

    A term whose name begins with ``metric/`` has no gradient and is no part of the loss.
    """
    means = {name: total / max(counts[name], 1.0) for name, total in sums.items()}
    metrics = {n: means.pop(n) for n in sorted(means) if n.startswith("metric/")}
    parts = {f"loss/{name}": mean for name, mean in means.items()} if len(means) > 1 else {}
    measured = {name.removeprefix("metric/"): mean for name, mean in metrics.items()}
    return {"loss": sum(means.values()), **parts, **measured}
