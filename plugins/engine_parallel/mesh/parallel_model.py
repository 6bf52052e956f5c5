"""This rank's part of a model divided over the grid, and its forward and backward passes.

The other degrees divide the model first. Then FSDP2 shards the float32 weights of this rank's part,
gathers them layer by layer in 16 bits, and sums gradients in float32.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard
from torch.distributed.tensor import DTensor

from engine import Batch, Setup, SpecError
from engine.modeling import (
    ObjectiveModule,
    backbone,
    compile_layers,
    layers,
    place,
)
from engine_parallel.activations import offloaded, recompute
from engine_parallel.config import Mesh
from engine_parallel.master_weights import DTYPES
from engine_parallel.mesh.batches import rows
from engine_parallel.mesh.body import Body
from engine_parallel.mesh.context_parallel import share_rows
from engine_parallel.mesh.decoder import Decoder, Terms, cut
from engine_parallel.mesh.expert_parallel import share_experts
from engine_parallel.mesh.grid import Grid
from engine_parallel.mesh.parts import Part
from engine_parallel.mesh.pipeline import Pipeline
from engine_parallel.mesh.tensor_parallel import share_matrices


class ParallelModel:
    """This rank's part of ``model``, which is divided in place.

    ``parts`` are its parameters by their names in the whole model, ``trained`` the trainable ones,
    ``name_of`` maps each name of a shared parameter to its first, and ``owners`` gives the pipeline
    ranks that hold each parameter: two for a matrix that is both embedding and head.
    """

    def __init__(self, config: Mesh, grid: Grid, setup: Setup, model: Any) -> None:
        self._grid, self._setup = grid, setup
        self.dtype = DTYPES[setup.precision]
        self._width: int = model.config.hidden_size if grid.layout.pipeline > 1 else 0
        first: dict[int, str] = {}
        for name, parameter in model.named_parameters(remove_duplicate=False):
            first.setdefault(id(parameter), name)
        every = model.named_parameters(remove_duplicate=False)
        self.name_of = {name: first[id(parameter)] for name, parameter in every}
        every_layer = layers(backbone(model))
        if grid.layout.pipeline > 1 and len(_sharing(every_layer)) < len(every_layer):
            raise SpecError(
                f"pipeline: layers of a {model.config.model_type} share weights",
                hint="use another degree",
            )
        recompute(model, setup)
        self._terms = Terms()
        self._of_own_positions: set[str] = set()
        self.runs = self._cut(model, config.runs_of_layers)
        modules = [run for _, run in self.runs]
        experts = self._shard(modules, model)
        self.parts = self._all_parts(modules, experts)
        self.trained = [p for p in self.parts.values() if p.weight.requires_grad]
        self._pipeline = self._made_pipeline(config) if grid.layout.pipeline > 1 else None
        self.owners = self._find_owners()

    def forward_backward(
        self, micro_batches: Sequence[Batch], counts: Mapping[str, float], scale: Tensor | float
    ) -> dict[str, Tensor]:
        """Returns this rank's loss sums by term, and leaves in ``trained`` the gradient of Σ_terms
        sum/count, times ``scale``."""
        for part in self.parts.values():
            part.parameter.grad = part.weight.grad = None
        terms, device = self._terms, self._grid.device
        terms.batches = [place(batch, device, self._setup) for batch in micro_batches]
        terms.counts, terms.sums, terms.scale = dict(counts), {}, scale
        terms.seed = torch.initial_seed()
        with offloaded(self._setup):
            if self._pipeline is None:
                self._one_by_one()
            else:
                self._in_pipeline(self._pipeline)
        for part in self.trained:
            gradient = part.parameter.grad
            if gradient is None:  # unused here, perhaps not on another rank
                part.weight.grad = torch.zeros_like(part.weight)
            else:
                assert isinstance(gradient, DTensor)
                part.weight.grad = gradient.to_local()
            if part.name in self._of_own_positions:
                dist.all_reduce(part.weight.grad, group=self._grid.dense["tensor"].get_group())
        self._sum_tied()
        return self._sums()

    def gradient_norm(self) -> Tensor:
        """The norm over all ranks of the gradients from :meth:`forward_backward`; collective."""
        layout = self._grid.layout
        total = torch.zeros((), dtype=torch.float64, device=self._grid.device)
        ranks = layout.ranks // layout.pipeline
        norms = torch._foreach_norm([part.gradient for part in self.trained])
        for part, norm in zip(self.trained, norms, strict=True):
            # A parameter that several ranks hold counts once.
            holders = ranks // part.parts * len(self.owners[part.name])
            total += norm.double().square() / holders
        dist.all_reduce(total)
        return total.sqrt().float()

    def _cut(self, model: Any, count: int) -> list[tuple[int, Decoder | ObjectiveModule]]:
        """This rank's runs of layers with their numbers; the whole model if it is not divided."""
        grid, objective = self._grid, self._setup.objective
        if not grid.divides_layers:
            return [(0, ObjectiveModule(model, objective))]
        body = Body.of(model)
        if grid.layout.context > 1:
            share_rows(model, grid)
        runs = cut(len(layers(backbone(model))), count)
        mine = range(grid.place("pipeline"), len(runs), grid.layout.pipeline)
        return [(n, Decoder(model, body, objective, runs[n], grid, self._terms)) for n in mine]

    def _shard(self, modules: Sequence[Decoder | ObjectiveModule], model: Any) -> set[int]:
        """Shards the weights of all modules; returns the ids of experts' parameters."""
        grid, setup = self._grid, self._setup
        narrow = MixedPrecisionPolicy(param_dtype=self.dtype, reduce_dtype=torch.float32)
        mesh = grid.copies(grid.dense)
        expert_modules: list[nn.Module] = []
        for module in modules:
            if grid.layout.tensor > 1:
                assert isinstance(module, Decoder)
                names = share_matrices(module, model, grid.dense["tensor"])
                self._of_own_positions |= {self.name_of[name] for name in names}
            its_layers = module.layers if isinstance(module, Decoder) else layers(module)
            if grid.layout.expert > 1:
                held = share_experts(its_layers, model.config.model_type, grid.experts["expert"])
                for experts in held:
                    fully_shard(experts, mesh=grid.copies(grid.experts), mp_policy=narrow)
                expert_modules += held
            if setup.compile:
                compile_layers(nn.ModuleList(its_layers))
            for group in _sharing(its_layers):
                fully_shard(group, mesh=mesh, mp_policy=narrow)
            fully_shard(module, mesh=mesh, mp_policy=narrow, reshard_after_forward=False)
            for part in module.modules():
                if isinstance(part, FSDPModule):
                    part.set_gradient_divide_factor(1.0)  # a sum, as counts are global
                    part.set_force_sum_reduction_for_comms(True)
        return {id(p) for m in expert_modules for p in m.parameters()}

    def _all_parts(self, modules: Sequence[nn.Module], experts: set[int]) -> dict[str, Part]:
        parts: dict[str, Part] = {}
        for module in modules:
            prefix = "model." if isinstance(module, ObjectiveModule) else ""
            for name, parameter in module.named_parameters():
                name = self.name_of[name.removeprefix(prefix)]
                expert = id(parameter) in experts
                parts[name] = Part.of(name, parameter, self._grid, expert=expert)
        return parts

    def _made_pipeline(self, config: Mesh) -> Pipeline:
        runs = [(number, run) for number, run in self.runs if isinstance(run, Decoder)]
        group, device = self._grid.degrees["pipeline"].get_group(), self._grid.device
        return Pipeline(runs, config.runs_of_layers, group, config.schedule, device)

    def _find_owners(self) -> dict[str, list[int]]:
        held: list[Any] = [None] * self._grid.layout.pipeline
        group = self._grid.degrees["pipeline"].get_group()
        dist.all_gather_object(held, list(self.parts), group=group)
        owners: dict[str, list[int]] = {}
        for number, names in enumerate(held):
            for name in names:
                owners.setdefault(name, []).append(number)
        return owners

    def _one_by_one(self) -> None:
        (_, module), terms, layout = self.runs[0], self._terms, self._grid.layout
        assert isinstance(module, FSDPModule)
        for number, batch in enumerate(terms.batches):
            # Copies are summed once a step; shards at once, as whole gradients would fill memory.
            module.set_requires_all_reduce(number == len(terms.batches) - 1)
            if isinstance(module, ObjectiveModule):
                terms.loss(module(batch)).backward()
                continue
            shared = layout.tensor * layout.context
            ids, places = rows([batch], shared, packed=module.packed)
            module(ids[0], places[0], torch.tensor([number])).backward()

    def _in_pipeline(self, pipeline: Pipeline) -> None:
        layout = self._grid.layout
        shared = layout.tensor * layout.context
        packed = all(run.packed for _, run in self.runs if isinstance(run, Decoder))
        ids, places = rows(self._terms.batches, shared, packed=packed)
        _, count, length = ids.shape
        shape = (count, length // shared, self._width)
        options: dict[str, Any] = {"device": self._grid.device}
        example = torch.empty(shape, dtype=self.dtype, requires_grad=True, **options)
        loss = torch.empty((), dtype=torch.float32, requires_grad=True, **options)
        pipeline.forward_backward(ids, places, example, loss)

    def _sum_tied(self) -> None:
        """Sums the gradients of a matrix that is tied between both ends of the pipeline."""
        mesh = self._grid.degrees["pipeline"]
        here, ranks = mesh.get_local_rank(), dist.get_process_group_ranks(mesh.get_group())
        for part in self.trained:
            owners = self.owners[part.name]
            if len(owners) == 1:
                continue
            (other,) = (ranks[owner] for owner in owners if owner != here)
            mine = part.gradient.contiguous()
            its = torch.empty_like(mine)
            both = [dist.P2POp(dist.isend, mine, other), dist.P2POp(dist.irecv, its, other)]
            for work in dist.batch_isend_irecv(both):
                work.wait()
            part.weight.grad = mine + its

    def _sums(self) -> dict[str, Tensor]:
        """The last run's loss sums, broadcast to every pipeline rank."""
        terms = self._terms
        if self._pipeline is None:
            return terms.sums
        group = self._grid.degrees["pipeline"].get_group()
        names = [sorted(terms.sums)]
        last = dist.get_process_group_ranks(group)[-1]
        dist.broadcast_object_list(names, last, group=group)
        sums = torch.zeros(len(names[0]), dtype=torch.float32, device=self._grid.device)
        if terms.sums:
            sums = torch.stack([terms.sums[name].float() for name in names[0]])
        dist.broadcast(sums, last, group=group)
        return dict(zip(names[0], sums, strict=True))


def _sharing(modules: Iterable[nn.Module]) -> list[list[nn.Module]]:
    """Groups of modules, in their order, without weights that two groups share."""
    groups: list[tuple[list[nn.Module], set[int]]] = []
    for module in modules:
        own = {id(p) for p in module.parameters()}
        group, held = next((g for g in groups if g[1] & own), ([], set()))
        if not group:
            groups.append((group, held))
        group.append(module)
        held |= own
    return [group for group, _ in groups]
