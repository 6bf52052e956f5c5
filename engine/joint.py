"""Several models that learn in one stage, each by a strategy of its own, as one strategy."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import replace
from typing import Any

from torch import Tensor, nn

from engine.component import Batch, Setup, Step, Strategy
from engine.objective import Companion
from engine.terms import read

_COMPANIONS = "companions"


class Joint:
    """See :class:`engine.Strategy`. The stage's own model is what is scored and exported.

    All read the same micro-batches, each by its own objective. Each gradient is clipped by its own
    norm and has a limit of its own, for the others ``limit`` of their name; where one of them is above
    its limit or not finite, all skip the step, as one's next gradient depends on the others.
    """

    def __init__(
        self,
        main: Strategy,
        others: Mapping[str, tuple[Strategy, Companion]],
        limit: Callable[[str], float] = lambda name: math.inf,
    ) -> None:
        self._main, self._others, self._limit = main, others, limit

    @property
    def data_rank(self) -> int:
        """As all of them have it."""
        return self._main.data_rank

    @property
    def data_size(self) -> int:
        """As all of them have it."""
        return self._main.data_size

    @property
    def min_micro_batches(self) -> int:
        """As the stage's own model needs."""
        return getattr(self._main, "min_micro_batches", 1)

    def prepare(self, setup: Setup) -> None:
        """See :class:`engine.Strategy`."""
        self._main.prepare(setup)
        for strategy, companion in self._others.values():
            strategy.prepare(
                replace(setup, build=companion.build, objective=companion.objective, frozen={})
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
        """See :class:`engine.Strategy`: the stage's own model's."""
        return self._main.gradient_norm()

    def step(self, lr: float, max_norm: float | None, spike_limit: float) -> Step:
        """See :class:`engine.Strategy`."""
        limits = {"": spike_limit, **{name: self._limit(name) for name in self._others}}
        norms = {name: s.gradient_norm() for name, (s, _) in self._others.items()}
        (found,) = read({"": self._main.gradient_norm(), **norms})
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
        """The others as they learn, for scoring, by name; entered by all ranks."""
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
        """The others by name, as they were built, with their final weights; collective."""
        for name, (strategy, companion) in self._others.items():
            yield name, companion.build(), strategy.export()
