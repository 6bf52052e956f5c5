"""How often training sees each source of a mixture."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from engine.data.mixture import Mixture, MixtureSource


def effective_epochs(sources: Sequence[MixtureSource]) -> dict[str, float]:
    """By its name how often each source is seen while as many samples are drawn as all sources have
    together; fewer if all reach their ``max_epochs`` before."""
    mixture = Mixture(sources, 0)
    drawn = min(mixture.epoch_size, len(mixture))
    starts = [start for start, _ in mixture.segments]
    counts = dict.fromkeys((source.name for source in sources), 0.0)
    for (_, shares), (start, end) in zip(
        mixture.segments, pairwise([*starts, len(mixture)]), strict=True
    ):
        for name, share in shares.items():
            counts[name] += share * max(0, min(end, drawn) - start)
    return {source.name: counts[source.name] / source.size for source in sources}
