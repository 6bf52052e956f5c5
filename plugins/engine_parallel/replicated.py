"""The whole model on every process: a single process, or data parallelism.

In bf16 and fp16 the model holds 16-bit weights, so that products need no cast. The optimizer updates
float32 master weights; gradients are summed in float32 over micro-batches and ranks (Micikevicius et
al. 2018).
"""

from __future__ import annotations

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
from engine.modeling import (
    ObjectiveModule,
    ParameterTerms,
    attend,
    compile_layers,
    place,
)
from engine_parallel.activations import offloaded, recompute
from engine_parallel.config import DDP, Single
from engine_parallel.master_weights import DTYPES, MasterWeights


class Replicated(Strategy):
    """Strategies ``single`` (one process) and ``ddp`` (several)."""

    def __init__(self, context: Context, bucket_mb: float = 25.0) -> None:
        self.data_rank = context.rank
        self.data_size = context.world_size
        self._device = context.device
        self._bucket_bytes = bucket_mb * 2**20

    def prepare(self, setup: Setup) -> None:
        """See :class:`engine.Strategy`."""
        self._setup = setup
        self._model: Any = setup.model.to(self._device)
        recompute(self._model, setup)
        if setup.compile:
            compile_layers(self._model)
        self._module = ObjectiveModule(self._model, setup.objective)
        trained = [(n, p) for n, p in self._model.named_parameters() if p.requires_grad]
        self._names = [name for name, _ in trained]
        self._parameters = [parameter for _, parameter in trained]
        self._masters = self._parameters
        # Frozen weights are cast to 16 bits to compute with; the export has the original ones.
        self._frozen = {id(p): p.detach() for p in self._model.parameters() if not p.requires_grad}
        if setup.precision != "fp32":
            self._masters = [nn.Parameter(p.detach().float().clone()) for p in self._parameters]
            for parameter in self._model.parameters():
                parameter.data = parameter.data.to(DTYPES[setup.precision])
        self._optimized = MasterWeights(self._names, self._masters, setup, self._device)
        self._terms = ParameterTerms(
            setup.parameter_terms, self._names, self._device, copies=self.data_size
        )

    def forward_backward(
        self, micro_batches: Sequence[Batch], counts: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Strategy`."""
        self._optimized.clear()
        sums: dict[str, Tensor] = {}
        for batch in micro_batches:
            with offloaded(self._setup):
                terms = self._module(place(batch, self._device, self._setup))
            loss = sum(terms[n] / max(counts[n], 1.0) for n in terms)
            (loss * self._optimized.scale).backward()
            self._collect_gradients()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach()
        self._sum_over_ranks()
        return sums | self._terms.add_gradients(self._masters, self._optimized.scale)

    def gradient_norm(self) -> Tensor:
        """See :class:`engine.Strategy`."""
        gradients = self._optimized.gradients()
        return torch.nn.utils.get_total_norm(gradients, foreach=True) / self._optimized.scale

    def step(self, lr: float, max_norm: float | None, spike_limit: float) -> Step:
        """See :class:`engine.Strategy`."""
        done = self._optimized.step(self.gradient_norm(), lr, max_norm, spike_limit)
        self._to_model(self._masters)
        return done

    @contextmanager
    def inference(self, *, averaged: bool = True) -> Iterator[nn.Module]:
        """See :class:`engine.Strategy`."""
        attention = self._model.config._attn_implementation
        attend(self._model)
        self._model.eval()
        averages = self._optimized.averages if averaged else []
        if averages:
            kept: Sequence[Tensor] = self._masters
            if self._masters is self._parameters:
                kept = [p.detach().clone() for p in self._parameters]
            self._copy(averages, self._parameters)
        try:
            yield self._model
        finally:
            if averages:
                self._copy(kept, self._parameters)
            self._model.train()
            attend(self._model, attention)

    def state(self) -> dict[str, Any]:
        """See :class:`engine.Strategy`."""
        return self._optimized.state()

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.Strategy`."""
        self._optimized.load(state)
        self._to_model(self._masters)

    def export(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`engine.Strategy`. Always in float32."""
        finals = self._optimized.finals
        trained = {id(p): f for p, f in zip(self._parameters, finals, strict=True)}
        final_of = self._frozen | trained
        for name, tensor in self._model.state_dict(keep_vars=True).items():
            final = final_of.get(id(tensor), tensor).detach()
            yield name, final.float() if final.is_floating_point() else final

    def _collect_gradients(self) -> None:
        """Adds a micro-batch's 16-bit gradients to the masters' float32 ones."""
        if self._masters is self._parameters:
            return
        for master, parameter in zip(self._masters, self._parameters, strict=True):
            if parameter.grad is None:
                continue
            if master.grad is None:
                master.grad = parameter.grad.float()
            else:
                master.grad.add_(parameter.grad)
            parameter.grad = None

    def _sum_over_ranks(self) -> None:
        """Sums gradients bucket by bucket, without averaging, as the counts are already global."""
        if self.data_size == 1:
            return
        pending = []
        bucket: list[Tensor] = []
        for master in reversed(self._masters):
            if master.grad is None:  # unused here, perhaps not on another rank
                master.grad = torch.zeros_like(master)
            bucket.append(master.grad)
            if sum(g.nbytes for g in bucket) >= self._bucket_bytes or master is self._masters[0]:
                flat = torch.cat([g.flatten() for g in bucket])
                pending.append((bucket, flat, dist.all_reduce(flat, async_op=True)))
                bucket = []
        for gradients, flat, work in pending:
            work.wait()
            pieces = flat.split([g.numel() for g in gradients])
            for gradient, piece in zip(gradients, pieces, strict=True):
                gradient.copy_(piece.view_as(gradient))

    def _to_model(self, weights: Sequence[Tensor]) -> None:
        if weights is not self._parameters:
            self._copy(weights, self._parameters)

    @staticmethod
    @torch.no_grad()
    def _copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
        torch._foreach_copy_(list(target), list(source))


def build_single(config: Single, context: Context) -> Replicated:
    """Builds the strategy for one process."""
    return Replicated(context)


def build_ddp(config: DDP, context: Context) -> Replicated:
    """Builds the data-parallel strategy."""
    return Replicated(context, config.bucket_mb)
