"""Strategy `zero`: DeepSpeed holds weights, gradients and optimizer; the engine drives its steps.

DeepSpeed averages gradients over ranks, but the engine's losses are already divided by counts over all
ranks. So losses are multiplied by the number of ranks.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from engine import (
    Batch,
    Context,
    RunError,
    Setup,
    Step,
    Strategy,
)
from engine.modeling import (
    ObjectiveModule,
    attend,
    average_decay,
    backbone,
    compile_layers,
    layers,
    place,
    reads_packed,
    recompute_layers,
)
from engine_zero.config import Zero
from engine_zero.gate import Gate
from engine_zero.parts import FlatParts, Parts, Rows, Stage3Parts, shared_entries, whole
from engine_zero.settings import deepspeed_settings
from engine_zero.start import check_disk, deepspeed_for

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


class ZeroStrategy(Strategy):
    """Strategy ``zero``."""

    def __init__(self, config: Zero, context: Context) -> None:
        self.data_rank = context.rank
        self.data_size = context.world_size
        self._config = config
        self._context = context
        self._device = context.device
        self._waiting = False

    def prepare(self, setup: Setup) -> None:
        """See :class:`engine.Strategy`. Raises RunError."""
        if setup.precision not in DTYPES:
            raise RunError(
                f"strategy 'zero': {setup.precision} is not supported: DeepSpeed has none on CPUs, and "
                "it is untested on GPUs",
                hint="set precision: bf16",
            )
        self._setup = setup
        self._dtype = DTYPES[setup.precision]
        model: Any = setup.model.to(self._device)
        with deepspeed_for(self._context) as deepspeed:
            if "disk" in (self._config.offload_optimizer, self._config.offload_parameters):
                check_disk(deepspeed)
            self._rows = Rows()
            self._plain = _without_weights(model)
            if setup.activation_checkpointing:
                recompute_layers(model)
            if setup.compile and self._config.stage < 3:  # hooks there break its graphs
                compile_layers(model)
            self._named = {n: p for n, p in model.named_parameters() if p.requires_grad}
            assert all(torch.finfo(p.dtype).bits >= 32 for p in self._named.values())
            self._shapes = {n: p.shape for n, p in model.named_parameters()}
            self._weights: dict[str, nn.Parameter] = dict(model.named_parameters())
            # Frozen weights are cast to 16 bits to compute with; the export has the original ones.
            self._frozen = {
                n: self._rows.divide(p) for n, p in self._weights.items() if not p.requires_grad
            }
            narrow = setup.precision != "fp32"
            masters = {n: p.detach().float().clone() for n, p in self._named.items() if narrow}
            optimizer = setup.optimizer(list(self._named.items()))
            settings = deepspeed_settings(self._config, setup.precision, self._device)
            module = ObjectiveModule(model, setup.objective)
            if self._config.stage == 3 and not reads_packed(model):
                # Which parts of a layer are used may depend on a row's length, which differs by rank.
                kinds = {type(layer) for layer in layers(backbone(model))}
                deepspeed.utils.set_z3_leaf_modules(module, list(kinds))
            try:
                self._engine, self._zero, *_ = deepspeed.initialize(
                    model=module, optimizer=optimizer, config=settings
                )
            except (ValueError, deepspeed.DeepSpeedConfigError) as error:
                why = " ".join(str(error).split())
                raise RunError(
                    f"strategy 'zero': DeepSpeed refuses its configuration: {why}",
                    hint="change it under strategy.config",
                ) from error
        self._base: Any = optimizer
        self._gate = Gate(self._zero)
        self._parts: Parts = (Stage3Parts if self._config.stage == 3 else FlatParts)(self._zero)
        for name, master in masters.items():  # DeepSpeed's come from 16-bit weights
            self._write(name, master)
        self._averages = {n: self._read(n).clone() for n in self._named} if setup.ema else {}
        self._averaged_steps = torch.zeros((), dtype=torch.int32)
        self._make_optimizer_state()

    def forward_backward(
        self, micro_batches: Sequence[Batch], counts: Mapping[str, float]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Strategy`. Drops gradients that no step has used."""
        if self._waiting:
            self._step(-math.inf, None)
        self._waiting = True
        sums: dict[str, Tensor] = {}
        for number, batch in enumerate(micro_batches, 1):
            self._engine.set_gradient_accumulation_boundary(number == len(micro_batches))
            terms = self._engine(place(batch, self._device, self._setup))
            loss = sum(terms[n] / max(counts[n], 1.0) for n in terms)
            self._engine.backward(loss * self.data_size, scale_wrt_gas=False)
            for name, value in terms.items():
                sums[name] = sums.get(name, 0) + value.detach()
        return sums

    def gradient_norm(self) -> Tensor:
        """See :class:`engine.Strategy`."""
        return self._gate.ask()

    def step(self, lr: float, max_norm: float | None, spike_limit: float) -> Step:
        """See :class:`engine.Strategy`."""
        for group in self._base.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        skipped = self._step(spike_limit, max_norm)
        if self._setup.ema is not None and not skipped:
            self._averaged_steps += 1
            weight = 1 - float(average_decay(self._setup.ema, self._averaged_steps))
            for name, average in self._averages.items():
                average.lerp_(self._read(name), weight)
        return Step(self._gate.norm, torch.tensor(skipped))

    @contextmanager
    def inference(self, *, averaged: bool = True) -> Iterator[nn.Module]:
        """See :class:`engine.Strategy`. Gives a second module without hooks, which has weights only
        inside the context: the trained model's at stages 1 and 2, gathered ones at stage 3."""
        for name, parameter in self._plain.named_parameters():
            parameter.data = self._whole_weight(name, averaged=averaged)
        self._plain.eval()
        try:
            yield self._plain
        finally:
            self._plain.train()
            for parameter in self._plain.parameters():
                parameter.data = parameter.data.new_empty(0)

    def state(self) -> dict[str, Any]:
        """See :class:`engine.Strategy`. Gathers parameters one by one; each rank keeps its rows, on the
        CPU."""
        state: dict[str, Any] = {
            "model": {n: self._rows.divide(self._whole(n, self._read(n))) for n in self._named},
            "optimizer": {n: self._optimizer_state(n) for n in self._named},
            # Stored for strategies with a loss scale, so that they can resume from here.
            "scale": {"scale": torch.ones(()), "good_steps": torch.zeros((), dtype=torch.int32)},
        }
        if self._averages:
            state["average"] = {
                n: self._rows.divide(self._whole(n, a)) for n, a in self._averages.items()
            }
            state["averaged_steps"] = self._averaged_steps.clone()
        return state

    def load(self, state: dict[str, Any]) -> None:
        """See :class:`engine.Strategy`."""
        for name, parameter in self._named.items():
            self._write(name, self._rows.join(state["model"][name]))
            flat = self._parts.flat(parameter)
            kept = self._base.state[flat]
            shared = dict(shared_entries(kept, flat))
            for key, value in state["optimizer"][name].items():
                if key not in shared:
                    self._write(name, self._rows.join(value), key)
                elif torch.is_tensor(value):
                    kept[key].copy_(value)
                else:
                    kept[key] = value
        for name, average in self._averages.items():
            average.copy_(self._cut(name, self._rows.join(state["average"][name])))
        if self._averages:
            self._averaged_steps.copy_(state["averaged_steps"])
        self._parts.refresh()

    def export(self) -> Iterator[tuple[str, Tensor]]:
        """See :class:`engine.Strategy`. Always in float32."""
        names = {id(p): n for n, p in self._plain.named_parameters()}
        for name, tensor in self._plain.state_dict(keep_vars=True).items():
            own = names.get(id(tensor))
            final = tensor.detach()
            if own is not None and own in self._named:
                final = self._whole(own, self._averages.get(own, self._read(own)))
            elif own is not None:
                final = self._rows.join(self._frozen[own])
            yield name, final.float() if final.is_floating_point() else final

    def _step(self, limit: float, max_norm: float | None) -> bool:
        """Takes DeepSpeed's own step, which consumes its gradients; returns whether it was skipped."""
        self._gate.set(limit, max_norm)
        self._engine.step()
        self._waiting = False
        skipped = bool(self._zero.overflow)
        if skipped:
            self._gate.forget()
        return skipped

    def _make_optimizer_state(self) -> None:
        """Makes the optimizer create its state, which loading a checkpoint needs before the first step.

        It takes one step that is skipped, or has a learning rate and gradients of 0.
        """
        for group in self._base.param_groups:
            group["lr"] = 0.0
        if getattr(self._base, "_step_supports_amp_scaling", False):
            self._base.grad_scale = self._base.found_inf = torch.ones((), device=self._device)
            self._parts.make_state()
            del self._base.grad_scale, self._base.found_inf
            return
        self._parts.make_state()
        for state in self._base.state.values():
            if torch.is_tensor(state.get("step")):
                state["step"].zero_()

    def _optimizer_state(self, name: str) -> dict[str, Any]:
        flat = self._parts.flat(self._named[name])
        kept = self._base.state[flat]
        shared = dict(shared_entries(kept, flat))
        return {
            key: self._rows.divide(self._whole(name, self._read(name, key)))
            if key not in shared
            else (value.cpu().clone() if torch.is_tensor(value) else value)
            for key, value in kept.items()
        }

    def _whole_weight(self, name: str, *, averaged: bool) -> Tensor:
        """A whole weight in the precision that the model computes with."""
        if averaged and name in self._averages:
            return self._whole(name, self._averages[name]).to(self._device, self._dtype)
        if self._config.stage < 3:
            return self._weights[name].data
        if name in self._frozen:
            return self._rows.join(self._frozen[name]).to(self._device, self._dtype)
        return self._whole(name, self._read(name)).to(self._device, self._dtype)

    def _read(self, name: str, key: str | None = None) -> Tensor:
        return self._parts.read(self._named[name], key)

    def _write(self, name: str, tensor: Tensor, key: str | None = None) -> None:
        self._parts.write(self._named[name], self._cut(name, tensor), key)

    def _whole(self, name: str, part: Tensor) -> Tensor:
        return whole(part, self._parts.start(self._named[name]), self._shapes[name])

    def _cut(self, name: str, tensor: Tensor) -> Tensor:
        """This rank's part of a whole tensor."""
        start = self._parts.start(self._named[name])
        return tensor.flatten()[start : start + self._read(name).numel()]


def build(config: Zero, context: Context) -> ZeroStrategy:
    """Builds the strategy."""
    return ZeroStrategy(config, context)


def _without_weights(model: Any) -> Any:
    """A copy of the model with empty parameters and shared buffers, for generation and scoring."""
    shared: dict[int, Any] = {id(b): b for b in model.buffers()}
    for parameter in model.parameters():
        shared[id(parameter)] = nn.Parameter(parameter.detach().new_empty(0), requires_grad=False)
    plain = copy.deepcopy(model, shared)
    attend(plain)
    return plain
