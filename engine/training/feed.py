"""The default feed of a step: records in the order of a mixture."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch

from engine.contracts.batch import Batch, Example
from engine.contracts.feed import (
    Feed,
    FeedSetup,
    State,
    Taken,
    even_cuts,
    micro_batches,
)
from engine.contracts.objective import Objective
from engine.contracts.optimizer import Progress
from engine.contracts.strategy import Strategy


class RecordFeed(Feed):
    """Gives every rank equally many rows, except in the last step of a budget in epochs, which takes
    the remaining rows.

    A rank with fewer rows has as many micro-batches as the others, because a collective in the forward
    pass would wait for a missing one.
    """

    def __init__(self, objective: Objective, setup: FeedSetup) -> None:
        self._objective, self._setup = objective, setup

    def take(self, state: State, progress: Progress, stopping: Callable[[], bool]) -> Taken:
        """See :class:`Feed`."""
        plan, strategy, data = self._setup.plan, self._setup.strategy, self._setup.data
        rows = plan.batch_tokens(progress) // plan.sequence // strategy.data_size
        rows = self._setup.in_budget(state, max(rows, 1) * strategy.data_size)
        examples, cursor = data.take(
            state.cursor, rows, state.excluded, strategy.data_rank, strategy.data_size
        )
        most = -(-rows // strategy.data_size)
        cuts = even_cuts(most, min(plan.micro_rows, max(1, most // strategy.min_micro_batches)))
        first = partial(self._first, state)
        batches = micro_batches(examples, cuts, self._objective.collate, first)
        if self._objective.observes:
            batches = _observed(batches, self._objective, strategy)
        return Taken(batches, state.cursor, cursor, rows)

    def _first(self, state: State) -> Example:
        """The step's first row, from which a stand-in batch is made."""
        (example,), _ = self._setup.data.take(state.cursor, 1, state.excluded, 0, 1)
        return example


def _observed(batches: list[Batch], objective: Objective, strategy: Strategy) -> list[Batch]:
    sums: dict[str, float] = {}
    with strategy.inference(averaged=False) as model, torch.no_grad():
        for batch in batches:
            weight = 1.0 if batch.tokens else 0.0  # a stand-in only adds names, alike on all ranks
            for name, (total, count) in objective.observe(batch, model).items():
                sums[name] = sums.get(name, 0.0) + weight * total
                sums[f"{name}/count"] = sums.get(f"{name}/count", 0.0) + weight * count
    sums = strategy.all_sum(sums)
    means = {n: total / max(sums[f"{n}/count"], 1.0) for n, total in sums.items() if "/" not in n}
    return [objective.settle(batch, means) for batch in batches]
