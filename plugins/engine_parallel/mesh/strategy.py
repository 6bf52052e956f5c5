"""Strategy ``mesh``: checks and divides a model, optimizes its parts, and joins them for export."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from engine import (
    Batch,
    Context,
    Setup,
    Step,
    Strategy,
)
from engine.modeling import ParameterTerms, attend
from engine_parallel import config as configs
from engine_parallel.master_weights import MasterWeights
from engine_parallel.mesh.cut_check import check_cut
from engine_parallel.mesh.grid import Grid
from engine_parallel.mesh.parallel_model import ParallelModel


class Mesh(Strategy):
    """See :class:`engine.Strategy`."""

    def __init__(self, config: configs.Mesh, context: Context) -> None:
        self._config, self._device = config, context.device
        self.layout = config.layout(context.world_size)
        self._grid = Grid.of(self.layout, context.device)
        self.data_rank, self.data_size = self._grid.data_rank, self.layout.samples_over
        self.ranks_per_sample = self.layout.ranks // self.data_size
        self.min_micro_batches = config.runs_of_layers

    def prepare(self, setup: Setup) -> None:
        """See :class:`engine.Strategy`. Raises SpecError where dividing would change the model."""
        model = setup.model.to(self._device)
        if self._grid.is_cut:
            check_cut(self._config, self._grid, model, setup, self.all_sum)
        self._divide(setup, model)

    def _divide(self, setup: Setup, model: Any) -> None:
        """Divides the model without the check of :meth:`prepare`."""
        # The whole model without weights, which are filled in for evaluation.
        empty = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
        self._whole: Any = copy.deepcopy(model, dict(empty))
        self._model = ParallelModel(self._config, self._grid, setup, model)
        trained = self._model.trained
        names, weights = [part.name for part in trained], [part.weight for part in trained]
        self._masters = MasterWeights(names, weights, setup, self._device)
        parts = dict(zip(names, trained, strict=True))
        self._terms = ParameterTerms(
            setup.parameter_terms,
            names,
            self._device,
            cut=lambda name, whole: parts[name].cut(whole),
            copies=self.layout.data,
        )

    def forward_backward(
        self, micro_batches: Sequence[Batch], counts: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Strategy`."""
        scale = self._masters.scale
        sums = self._model.forward_backward(micro_batches, counts, scale)
        return sums | self._terms.add_gradients(self._masters.weights, scale)

    def gradient_norm(self) -> Tensor:
        """See :class:`engine.Strategy`."""
        return self._model.gradient_norm() / self._masters.scale

    def step(self, lr: float, max_norm: float | None, spike_limit: float) -> Step:
        """See :class:`engine.Strategy`."""
        return self._masters.step(self.gradient_norm(), lr, max_norm, spike_limit)

    @contextmanager
    def inference(self, *, averaged: bool = True) -> Iterator[nn.Module]:
        """See :class:`engine.Strategy`. Every rank holds the whole model inside the context."""
        meta = self._whole.state_dict()
        full = self._full(averaged=averaged)
        weights = {n: t.to(self._model.dtype) for n, t in full if t.is_floating_point()}
        self._whole.load_state_dict(weights, assign=True, strict=False)
        attend(self._whole)
        self._whole.eval()
        try:
            yield self._whole
        finally:
            self._whole.train()
            self._whole.load_state_dict(meta, assign=True)

    def state(self) -> dict[str, Any]:
        """See :class:`engine.Strategy`."""
        trained = self._model.trained
        return self._masters.state(lambda number, part: trained[number].whole(part))

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.Strategy`."""
        self._masters.load(state)

    def export(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`engine.Strategy`. Always in float32."""
        for name, weight in self._full():
            yield name, weight.float() if weight.is_floating_point() else weight

    def _full(self, *, averaged: bool = True) -> Iterator[tuple[str, Tensor]]:
        """All whole weights, on every rank; with ``averaged``, their moving averages if kept;
        collective."""
        model = self._model
        kept = self._masters.finals if averaged else self._masters.weights
        finals = dict(zip(self._masters.names, kept, strict=True))
        group = self._grid.degrees["pipeline"].get_group()
        ranks = dist.get_process_group_ranks(group)
        for name, empty in self._whole.state_dict().items():
            own = model.name_of.get(name)
            if own is None:  # a buffer, which every rank holds
                yield name, empty
                continue
            owner = model.owners[own][0]
            if self._grid.place("pipeline") == owner:
                part = model.parts[own]
                whole = part.full(finals.get(own, part.weight).detach())
            else:
                whole = torch.empty(empty.shape, dtype=torch.float32, device=self._device)
            if len(ranks) > 1:
                dist.broadcast(whole, ranks[owner], group=group)
            yield name, whole


def build(config: configs.Mesh, context: Context) -> Mesh:
    """The strategy."""
    return Mesh(config, context)
