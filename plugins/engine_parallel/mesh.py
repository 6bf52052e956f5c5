"""Strategy ``mesh``: copies, shards, and parts of matrices, layers, rows and experts, together.

FSDP2 holds the float32 weights of whatever part this rank has, gathers them layer by layer in the
narrow type, and sums gradients in float32; the other degrees cut the model before it does.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

from engine import (
    Batch,
    Context,
    ObjectiveModule,
    Setup,
    Step,
    attend,
    compile_layers,
    layers,
    place,
)
from engine_parallel import config as configs
from engine_parallel.activations import offloaded, recompute
from engine_parallel.batches import pad
from engine_parallel.context import share_rows
from engine_parallel.cut_check import CUTS, check_cut
from engine_parallel.decoder import Decoder, Terms, cut
from engine_parallel.experts import share_experts
from engine_parallel.grid import Grid
from engine_parallel.masters import DTYPES, Masters
from engine_parallel.parts import Part
from engine_parallel.pipeline import Pipeline
from engine_parallel.tensor import share_matrices


class Mesh:
    """See :class:`engine.Strategy`."""

    def __init__(self, config: configs.Mesh, context: Context) -> None:
        self._config, self.device = config, context.device
        self.layout = config.layout(context.world_size)
        self._is_cut = any(getattr(self.layout, degree) > 1 for degree in CUTS)
        self._grid = Grid.of(self.layout, context.device)
        self.data_rank, self.data_size = self._grid.data_rank, self.layout.samples_over
        self.min_micro_batches = config.runs_of_layers

    def prepare(self, setup: Setup) -> None:
        """See :class:`engine.Strategy`. Raises SpecError where a cut would change the model."""
        model = setup.build().to(self.device)
        if self._is_cut:
            check_cut(self, model, setup)
        self._prepare(setup, model)

    def trial(
        self, setup: Setup, model: Any, batches: Sequence[Batch], counts: Mapping[str, float]
    ) -> tuple[dict[str, float], list[tuple[str, Tensor]]]:
        """Sums over all ranks, and this rank's gradients, each whole, of another model on the grid.

        Collective; this strategy stays as it is.
        """
        other = copy.copy(self)
        other._prepare(setup, model)
        sums = other.forward_backward(batches, counts)
        gradients = [(part.name, part.full(part.weight.grad)) for part in other._trained]
        return other.all_sum({name: float(value) for name, value in sums.items()}), gradients

    def _prepare(self, setup: Setup, model: Any) -> None:
        self._setup, self._dtype = setup, DTYPES[setup.precision]
        # The whole model without its weights, to be filled when it is scored.
        empty = {id(p): nn.Parameter(p.to("meta"), p.requires_grad) for p in model.parameters()}
        self._whole: Any = copy.deepcopy(model, dict(empty))
        first: dict[int, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            first.setdefault(id(parameter), name)
        every = model.named_parameters(remove_duplicate=False)
        self._name_of = {name: first[id(parameter)] for name, parameter in every}
        recompute(model, setup)
        self._terms = Terms()
        self._runs = self._cut(model)
        modules = [run for _, run in self._runs]
        experts = self._shard(modules, model)
        self._parts = self._all_parts(modules, experts)
        self._trained = [p for p in self._parts.values() if p.weight.requires_grad]
        names, weights = [p.name for p in self._trained], [p.weight for p in self._trained]
        self._masters = Masters(names, weights, setup, self.device)
        self._pipeline = None
        if self.layout.pipeline > 1:
            group = self._grid.degrees["pipeline"].get_group()
            self._pipeline = Pipeline(
                self._runs, self._config.runs_of_layers, group, self._config.schedule, self.device
            )
        self._owners = self._find_owners()

    def all_sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """See :class:`engine.Strategy`."""
        names = sorted(values)
        total = torch.tensor([values[n] for n in names], dtype=torch.float64)
        dist.all_reduce(total)
        # Divided at the end: thirds would not add up to whole numbers.
        total /= self.layout.ranks // self.data_size
        return dict(zip(names, total.tolist(), strict=True))

    def forward_backward(
        self, micro_batches: Sequence[Batch], counts: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Strategy`."""
        for part in self._parts.values():
            part.parameter.grad = None
        self._masters.clear()
        terms = self._terms
        terms.batches = [place(batch, self.device, self._setup) for batch in micro_batches]
        terms.counts, terms.sums, terms.scale = dict(counts), {}, self._masters.scale
        terms.seed = torch.initial_seed()
        with offloaded(self._setup):
            if self._pipeline is None:
                self._one_by_one()
            else:
                self._in_pipeline()
        for part in self._trained:
            if part.parameter.grad is not None:
                part.weight.grad = part.parameter.grad.to_local()
            else:  # unused here, perhaps not on another rank
                part.weight.grad = torch.zeros_like(part.weight)
        self._sum_tied()
        return self._sums(counts)

    def gradient_norm(self) -> Tensor:
        """See :class:`engine.Strategy`."""
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        ranks = self.layout.ranks // self.layout.pipeline
        norms = torch._foreach_norm(self._masters.gradients())
        for part, norm in zip(self._trained, norms, strict=True):
            # What several ranks hold counts once.
            holders = ranks // part.parts * len(self._owners[part.name])
            total += norm.double().square() / holders
        dist.all_reduce(total)
        return total.sqrt().float() / self._masters.scale

    def step(self, lr: float, max_norm: float | None, spike_limit: float) -> Step:
        """See :class:`engine.Strategy`."""
        return self._masters.step(self.gradient_norm(), lr, max_norm, spike_limit)

    @contextmanager
    def inference(self, *, averaged: bool = True) -> Iterator[nn.Module]:
        """See :class:`engine.Strategy`. Every rank holds the whole model meanwhile."""
        meta = self._whole.state_dict()
        full = self._full(averaged=averaged)
        weights = {n: t.to(self._dtype) for n, t in full if t.is_floating_point()}
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
        return self._masters.state(lambda number, part: self._trained[number].whole(part))

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.Strategy`."""
        self._masters.load(state)

    def export(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`engine.Strategy`. In float32 whatever the precision of training."""
        for name, weight in self._full():
            yield name, weight.float() if weight.is_floating_point() else weight

    def _cut(self, model: Any) -> list[tuple[int, nn.Module]]:
        """This rank's runs of layers with their numbers; the whole model if it need not be cut."""
        layout, objective = self.layout, self._setup.objective
        if not self._is_cut:
            return [(0, ObjectiveModule(model, objective))]
        if layout.context > 1:
            share_rows(model, self._grid)
        runs = cut(len(layers(model.base_model)), self._config.runs_of_layers)
        mine = range(self._grid.place("pipeline"), len(runs), layout.pipeline)
        return [(n, Decoder(model, objective, runs[n], self._grid, self._terms)) for n in mine]

    def _shard(self, modules: Sequence[Any], model: Any) -> set[int]:
        """Everything that divides weights; gives the ids of those that are experts'."""
        grid, setup = self._grid, self._setup
        narrow = MixedPrecisionPolicy(param_dtype=self._dtype, reduce_dtype=torch.float32)
        mesh = grid.copies(grid.dense)
        expert_modules: list[nn.Module] = []
        for module in modules:
            if self.layout.tensor > 1:
                share_matrices(module, model, grid.dense["tensor"])
            its_layers = module.layers if self._is_cut else layers(module)
            if self.layout.expert > 1:
                held = share_experts(its_layers, model.config.model_type, grid.experts["expert"])
                for experts in held:
                    fully_shard(experts, mesh=grid.copies(grid.experts), mp_policy=narrow)
                expert_modules += held
            if setup.compile:
                compile_layers(nn.ModuleList(its_layers))
            for layer in its_layers:
                fully_shard(layer, mesh=mesh, mp_policy=narrow)
            fully_shard(module, mesh=mesh, mp_policy=narrow, reshard_after_forward=False)
            for part in module.modules():
                if isinstance(part, FSDPModule):
                    part.set_gradient_divide_factor(1.0)  # counts are global: sums, no averages
                    part.set_force_sum_reduction_for_comms(True)
        return {id(p) for m in expert_modules for p in m.parameters()}

    def _all_parts(self, modules: Sequence[Any], experts: set[int]) -> dict[str, Part]:
        parts: dict[str, Part] = {}
        for module in modules:
            prefix = "model." if isinstance(module, ObjectiveModule) else ""
            for name, parameter in module.named_parameters():
                name = self._name_of[name.removeprefix(prefix)]
                expert = id(parameter) in experts
                parts[name] = Part.of(name, parameter, self._grid, expert=expert)
        return parts

    def _find_owners(self) -> dict[str, list[int]]:
        """Pipeline ranks that hold each parameter: two for a matrix of both embedding and head."""
        held: list[Any] = [None] * self.layout.pipeline
        group = self._grid.degrees["pipeline"].get_group()
        dist.all_gather_object(held, list(self._parts), group=group)
        owners: dict[str, list[int]] = {}
        for number, names in enumerate(held):
            for name in names:
                owners.setdefault(name, []).append(number)
        return owners

    def _one_by_one(self) -> None:
        (_, module), terms = self._runs[0], self._terms
        for number, batch in enumerate(terms.batches):
            # Copies are summed once a step; shards at once, or gradients would be held whole.
            module.set_requires_all_reduce(number == len(terms.batches) - 1)
            if isinstance(module, ObjectiveModule):
                terms.loss(module(batch)).backward()
                continue
            ids, places = pad([batch], self.layout.tensor * self.layout.context)
            module(ids[0], places[0], torch.tensor([number])).backward()

    def _in_pipeline(self) -> None:
        assert self._pipeline is not None
        shared = self.layout.tensor * self.layout.context
        ids, places = pad(self._terms.batches, shared)
        _, rows, length = ids.shape
        shape = (rows, length // shared, self._whole.config.hidden_size)
        options: dict[str, Any] = {"device": self.device}
        example = torch.empty(shape, dtype=self._dtype, requires_grad=True, **options)
        loss = torch.empty((), dtype=torch.float32, requires_grad=True, **options)
        self._pipeline.forward_backward(ids, places, example, loss)

    def _sum_tied(self) -> None:
        """A matrix at both ends of the pipeline has gradients at both; each gets the sum."""
        mesh = self._grid.degrees["pipeline"]
        here, ranks = mesh.get_local_rank(), dist.get_process_group_ranks(mesh.get_group())
        for part in self._trained:
            owners = self._owners[part.name]
            if len(owners) == 1:
                continue
            (other,) = (ranks[owner] for owner in owners if owner != here)
            mine = part.weight.grad.contiguous()
            its = torch.empty_like(mine)
            both = [dist.P2POp(dist.isend, mine, other), dist.P2POp(dist.irecv, its, other)]
            for work in dist.batch_isend_irecv(both):
                work.wait()
            part.weight.grad = mine + its

    def _sums(self, counts: Mapping[str, float]) -> dict[str, Tensor]:
        """The last run of layers has them; the other pipeline ranks get them."""
        if self._pipeline is None:
            return self._terms.sums
        group = self._grid.degrees["pipeline"].get_group()
        names = [sorted(self._terms.sums)]
        last = dist.get_process_group_ranks(group)[-1]
        dist.broadcast_object_list(names, last, group=group)
        sums = torch.zeros(len(names[0]), dtype=torch.float32, device=self.device)
        if self._terms.sums:
            sums = torch.stack([self._terms.sums[name].float() for name in names[0]])
        dist.broadcast(sums, last, group=group)
        return dict(zip(names[0], sums, strict=True))

    def _full(self, *, averaged: bool = True) -> Iterator[tuple[str, Tensor]]:
        """Every final weight, or every one that learns, whole, on every rank; collective."""
        kept = self._masters.finals if averaged else self._masters.weights
        finals = dict(zip(self._masters.names, kept, strict=True))
        group = self._grid.degrees["pipeline"].get_group()
        ranks = dist.get_process_group_ranks(group)
        for name, empty in self._whole.state_dict().items():
            own = self._name_of.get(name)
            if own is None:  # a buffer, which every rank has
                yield name, empty
                continue
            owner = self._owners[own][0]
            if self._grid.place("pipeline") == owner:
                part = self._parts[own]
                whole = part.full(finals.get(own, part.weight).detach())
            else:
                whole = torch.empty(empty.shape, dtype=torch.float32, device=self.device)
            if len(ranks) > 1:
                dist.broadcast(whole, ranks[owner], group=group)
            yield name, whole


def build(config: configs.Mesh, context: Context) -> Mesh:
    """The strategy."""
    return Mesh(config, context)
