"""Counts and means of a step's loss terms."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from engine.contracts.batch import Batch


def counts(micro_batches: Sequence[Batch]) -> dict[str, float]:
    """Counts of each loss term and of input tokens over the micro-batches; stand-ins count as 0."""
    totals: Counter[str] = Counter()
    for batch in micro_batches:
        for name, count in batch.counts.items():
            totals[name] += count if batch.tokens else 0
        totals["tokens"] += batch.tokens
    return {name: float(count) for name, count in totals.items()}


def means(sums: Mapping[str, float], counts: Mapping[str, float]) -> dict[str, float]:
    """The mean loss, its terms if there are several, and metrics.

    A term whose name begins with ``metric/`` has no gradient and is not part of the loss.
    """
    # Terms of parameters have no count.
    means = {name: total / max(counts.get(name, 1.0), 1.0) for name, total in sums.items()}
    metrics = {n: means.pop(n) for n in sorted(means) if n.startswith("metric/")}
    parts = {f"loss/{name}": mean for name, mean in means.items()} if len(means) > 1 else {}
    measured = {name.removeprefix("metric/"): mean for name, mean in metrics.items()}
    return {"loss": sum(means.values()), **parts, **measured}
