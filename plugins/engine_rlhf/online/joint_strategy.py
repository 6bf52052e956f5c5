"""One strategy for several models that train in one stage, each by a strategy of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from engine import (
    Batch,
    Setup,
    Step,
    Strategy,
)
from engine.modeling import read_scalars
from engine_rlhf.online.rounds import Companion

_COMPANIONS = "companions"


class JointStrategy(Strategy):
    """See :class:`engine.Strategy`. Evaluation and export use the stage's own model, ``main``.

    All models read the same micro-batches, each with its own loss. Each gradient is clipped by its own
    norm and has its own spike limit, a companion's by ``limit(name)``. Where one gradient exceeds its
    limit or is not finite, all models skip the step, since their next gradients depend on one another.
    """

    def __init__(
        self,
        main: Strategy,
        others: Mapping[str, tuple[Strategy, Companion]],
        limit: Callable[[str], float] = lambda name: math.inf,
    ) -> None:
        self._main, self._others, self._limit = main, others, limit
        self.data_rank, self.data_size = main.data_rank, main.data_size
        self.min_micro_batches = main.min_micro_batches

    def prepare(self, setup: Setup) -> None:
        """See :class:`engine.Strategy`."""
        self._main.prepare(setup)
        for strategy, companion in self._others.values():
            strategy.prepare(
                replace(
                    setup,
                    model=companion.model,
                    objective=companion.loss,
                    frozen={},
                    parameter_terms=(),
                )
            )

    def all_sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """See :class:`engine.Strategy`."""
        return self._main.all_sum(values)

    def forward_backward(
        self, micro_batches: Sequence[Batch], counts: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Strategy`."""
        sums = self._main.forward_backward(micro_batches, counts)
        for strategy, _ in self._others.values():
            sums |= strategy.forward_backward(micro_batches, counts)
        return sums

    def gradient_norm(self) -> Tensor:
        """See :class:`engine.Strategy`: the norm of the stage's own model."""
        return self._main.gradient_norm()

    def step(self, lr: float, max_norm: float | None, spike_limit: float) -> Step:
        """See :class:`engine.Strategy`."""
        limits = {"": spike_limit, **{name: self._limit(name) for name in self._others}}
        norms = {name: s.gradient_norm() for name, (s, _) in self._others.items()}
        (found,) = read_scalars({"": self._main.gradient_norm(), **norms})
        good = all(math.isfinite(norm) and norm <= limits[name] for name, norm in found.items())
        limit = math.inf if good else -math.inf
        done = self._main.step(lr, max_norm, limit)
        others = {n: s.step(lr, max_norm, limit).grad_norm for n, (s, _) in self._others.items()}
        return replace(done, companions=others)

    def inference(self, *, averaged: bool = True) -> AbstractContextManager[nn.Module]:
        """See :class:`engine.Strategy`."""
        return self._main.inference(averaged=averaged)

    @contextmanager
    def companions(self) -> Iterator[dict[str, nn.Module]]:
        """The companions with their current weights, by name, for scoring; all ranks enter it."""
        with ExitStack() as stack:
            yield {
                name: stack.enter_context(strategy.inference(averaged=False))
                for name, (strategy, _) in self._others.items()
            }

    def state(self) -> dict[str, Any]:
        """See :class:`engine.Strategy`."""
        others = {name: strategy.state() for name, (strategy, _) in self._others.items()}
        return {**self._main.state(), _COMPANIONS: others}

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.Strategy`."""
        self._main.load({name: part for name, part in state.items() if name != _COMPANIONS})
        for name, (strategy, _) in self._others.items():
            strategy.load(state[_COMPANIONS][name])

    def export(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`engine.Strategy`."""
        return self._main.export()

    def exports(self) -> Iterator[tuple[str, nn.Module, Iterator[tuple[str, Tensor]]]]:
        """Each companion's name, its model as built, and its final weights; collective."""
        for name, (strategy, companion) in self._others.items():
            yield name, companion.model, strategy.export()
