"""The whole model on every process: one process alone, or several that average their gradients."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.checkpoint.state_dict import (
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from engine import Batch, Context, ObjectiveModule, Setup, Step
from engine_parallel.config import DDP, Single

_DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_FP16_SCALE = 2.0**16
_FP16_GROWTH_STEPS = 2000


class Replicated:
    """Strategy ``single``, and with a process group ``ddp``."""

    def __init__(self, context: Context, bucket_mb: float | None = None) -> None:
        self.data_rank = context.rank
        self.data_size = context.world_size
        self._device = context.device
        self._bucket_mb = bucket_mb

    def prepare(self, setup: Setup) -> None:
        """See :class:`engine.Strategy`."""
        self._setup = setup
        self._model = setup.build().to(self._device)
        if setup.activation_checkpointing:
            self._model.gradient_checkpointing_enable({"use_reentrant": False})
        self._module: nn.Module = ObjectiveModule(self._model, setup.objective)
        if setup.compile:
            _compile_layers(self._model)
        self._average = None
        if setup.ema is not None:
            average = get_ema_multi_avg_fn(setup.ema)
            self._average = AveragedModel(self._model, multi_avg_fn=average)
        self._wrapped = self._wrap(self._module)
        trained = [(n, p) for n, p in self._model.named_parameters() if p.requires_grad]
        self._parameters = [p for _, p in trained]
        self._optimizer = setup.optimizer(trained)
        self._scale = torch.tensor(_FP16_SCALE if setup.precision == "fp16" else 1.0)
        self._scale = self._scale.to(self._device)
        self._good_steps = torch.zeros((), dtype=torch.int32, device=self._device)

    def all_sum(self, values: Mapping[str, float]) -> dict[str, float]:
        """See :class:`engine.Strategy`."""
        if self.data_size == 1:
            return dict(values)
        names = sorted(values)
        total = torch.tensor([values[n] for n in names], dtype=torch.float64)
        dist.all_reduce(total)
        return dict(zip(names, total.tolist(), strict=True))

    def forward_backward(
        self, micro_batches: Sequence[Batch], counts: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Strategy`. DDP averages, hence the factor ``data_size``."""
        self._optimizer.zero_grad(set_to_none=True)
        sums: dict[str, Tensor] = {}
        for index, batch in enumerate(micro_batches):
            last = index == len(micro_batches) - 1
            batch = self._setup.objective.annotate(self._placed(batch), self._setup.frozen)
            with self._without_sync(last), self._autocast():
                terms = self._wrapped(batch)
                loss = sum(terms[n] / max(counts[n], 1.0) for n in terms) * self.data_size
                (loss * self._scale).backward()
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach()
        return sums

    def step(self, lr: float, max_norm: float | None, spike_limit: float) -> Step:
        """See :class:`engine.Strategy`. The decision to skip stays on the device."""
        gradients = [p.grad for p in self._parameters if p.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients, foreach=True) / self._scale
        skipped = ~(norm <= spike_limit) | ~norm.isfinite()
        clip = torch.ones_like(norm) if max_norm is None else (max_norm / norm).clamp(max=1.0)
        optimizer: Any = self._optimizer
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_scale"]
        optimizer.grad_scale = self._scale / clip
        optimizer.found_inf = skipped.to(torch.float32)
        optimizer.step()
        if self._setup.precision == "fp16":
            self._adjust_scale(optimizer.found_inf)
        if self._average is not None:
            self._average.update_parameters(self._model)
        return Step(norm, skipped)

    @contextmanager
    def inference(self) -> Iterator[nn.Module]:
        """See :class:`engine.Strategy`."""
        model: Any = self._average.module if self._average is not None else self._model
        attention = model.config._attn_implementation
        model.eval()
        model.set_attn_implementation("sdpa")
        try:
            with self._autocast():
                yield model
        finally:
            model.set_attn_implementation(attention)
            model.train()

    def state(self) -> dict[str, Any]:
        """See :class:`engine.Strategy`."""
        state = {
            "model": get_model_state_dict(self._model),
            "optimizer": get_optimizer_state_dict(self._model, self._optimizer),
            "scale": {"scale": self._scale, "good_steps": self._good_steps},
        }
        if self._average is not None:
            state["average"] = self._average.state_dict()
        return state

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.Strategy`."""
        set_model_state_dict(self._model, state["model"])
        set_optimizer_state_dict(self._model, self._optimizer, state["optimizer"])
        self._scale.copy_(state["scale"]["scale"])
        self._good_steps.copy_(state["scale"]["good_steps"])
        if self._average is not None:
            self._average.load_state_dict(state["average"])

    def export(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`engine.Strategy`."""
        model = self._average.module if self._average is not None else self._model
        yield from model.state_dict().items()

    def _wrap(self, module: nn.Module) -> nn.Module:
        if self.data_size == 1:
            return module
        return DistributedDataParallel(module, bucket_cap_mb=self._bucket_mb)

    def _without_sync(self, last: bool) -> AbstractContextManager[None]:
        if last or not isinstance(self._wrapped, DistributedDataParallel):
            return contextlib.nullcontext()
        return self._wrapped.no_sync()

    def _autocast(self) -> AbstractContextManager[Any]:
        precision = self._setup.precision
        return torch.autocast(
            self._device.type, dtype=_DTYPES[precision], enabled=precision != "fp32"
        )

    def _placed(self, batch: Batch) -> Batch:
        def place(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
            return {k: v.to(self._device, non_blocking=True) for k, v in tensors.items()}

        return Batch(place(batch.inputs), place(batch.targets), batch.counts, batch.tokens)

    def _adjust_scale(self, found_inf: Tensor) -> None:
        """Halves after an overflow, doubles after 2000 good steps (Micikevicius et al. 2018)."""
        torch._amp_update_scale_(
            self._scale, self._good_steps, found_inf, 2.0, 0.5, _FP16_GROWTH_STEPS
        )


def build_single(config: Single, context: Context) -> Replicated:
    """One process."""
    return Replicated(context)


def build_ddp(config: DDP, context: Context) -> Replicated:
    """Every process of the group."""
    return Replicated(context, config.bucket_mb)


def _compile_layers(model: Any) -> None:
    """Layer by layer: they share one compiled graph, so it takes seconds and not minutes."""
    for layer in model.base_model.layers:
        layer.compile(dynamic=False)
