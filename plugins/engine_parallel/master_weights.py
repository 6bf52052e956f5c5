"""Float32 master weights with their optimizer, moving average and loss scale.

A master weight is this rank's part of a parameter; the strategy knows how to join the parts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from engine import Setup, Step
from engine.modeling import average_decay

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_FP16_SCALE = 2.0**16
_FP16_GROWTH_STEPS = 2000

Whole = Callable[[int, Tensor], Tensor]
"""Maps a weight's index and this rank's part of it to what a checkpoint stores."""


class MasterWeights:
    """Float32 weights, with gradients in ``grad``, and everything else that an optimizer step needs."""

    def __init__(
        self, names: Sequence[str], weights: Sequence[Tensor], setup: Setup, device: torch.device
    ) -> None:
        self.names, self.weights = list(names), list(weights)
        assert all(torch.finfo(w.dtype).bits >= 32 for w in weights), (
            "master weights must be float32"
        )
        self._ema = setup.ema
        self.averages = [w.detach().clone() for w in weights] if setup.ema else []
        self._averaged_steps = torch.zeros((), dtype=torch.int32, device=device)
        self._fp16 = setup.precision == "fp16"
        self.scale = torch.tensor(_FP16_SCALE if self._fp16 else 1.0, device=device)
        self._good_steps = torch.zeros((), dtype=torch.int32, device=device)
        self._optimizer: Any = setup.optimizer(list(zip(self.names, self.weights, strict=True)))
        self._device_skips = getattr(self._optimizer, "_step_supports_amp_scaling", False)
        self._make_optimizer_state()

    @property
    def finals(self) -> list[Tensor]:
        """The weights to evaluate and export: the moving averages if kept, else the masters."""
        return self.averages or self.weights

    def clear(self) -> None:
        """Drops the gradients."""
        for weight in self.weights:
            weight.grad = None

    def gradients(self) -> list[Tensor]:
        """The gradients, multiplied by the loss scale, of the weights that have one."""
        return [w.grad for w in self.weights if w.grad is not None]

    def step(self, norm: Tensor, lr: float, max_norm: float | None, spike_limit: float) -> Step:
        """Takes one optimizer step; ``norm`` is the unscaled gradient norm over all ranks.

        Optimizers that support it, as they tell torch's GradScaler, decide on the device whether to
        skip the step, without a synchronisation.
        """
        skipped = ~(norm <= spike_limit) | ~norm.isfinite()
        clip = torch.ones_like(norm)
        if max_norm is not None:
            clip = (max_norm / (norm + 1e-6)).clamp(max=1.0)
        for group in self._optimizer.param_groups:
            group["lr"] = lr * group.get("lr_scale", 1.0)
        self._update(clip / self.scale, skipped)
        if self.averages:
            assert self._ema is not None
            self._averaged_steps += ~skipped
            weight = (1 - average_decay(self._ema, self._averaged_steps)) * ~skipped
            for average, master in zip(self.averages, self.weights, strict=True):
                average.lerp_(master.detach(), weight)  # _foreach_lerp_ would copy it to the CPU
        if self._fp16:
            # Halves after an overflow, doubles after 2000 good steps (Micikevicius et al. 2018).
            torch._amp_update_scale_(
                self.scale, self._good_steps, skipped.float(), 2.0, 0.5, _FP16_GROWTH_STEPS
            )
        return Step(norm, skipped)

    def state(self, whole: Whole = lambda number, part: part) -> dict[str, Any]:
        """See :class:`engine.Strategy`: keyed by parameter names, which every strategy shares."""

        def entry(number: int, value: Any) -> Any:
            same = torch.is_tensor(value) and value.shape == self.weights[number].shape
            return whole(number, value) if same and value.dim() else value

        state = {
            "model": {n: whole(i, w.detach()) for i, (n, w) in self._numbered(self.weights)},
            "optimizer": {
                name: {key: entry(i, value) for key, value in self._optimizer.state[weight].items()}
                for i, (name, weight) in self._numbered(self.weights)
            },
            "scale": {"scale": self.scale, "good_steps": self._good_steps},
        }
        if self.averages:
            state["average"] = {n: whole(i, a) for i, (n, a) in self._numbered(self.averages)}
            state["averaged_steps"] = self._averaged_steps
        return state

    def load(self, state: dict[str, Any]) -> None:
        """Restores plain values from the state; tensors have already been loaded in place."""
        for name, weight in zip(self.names, self.weights, strict=True):
            for key, value in state["optimizer"][name].items():
                if not torch.is_tensor(value):
                    self._optimizer.state[weight][key] = value

    def _numbered(self, values: Sequence[Tensor]) -> enumerate[tuple[str, Tensor]]:
        return enumerate(zip(self.names, values, strict=True))

    def _make_optimizer_state(self) -> None:
        """Makes the optimizer create its state, which loading a checkpoint needs before the first step.

        It takes one step that is skipped, or has a learning rate and gradients of 0.
        """
        for weight in self.weights:
            weight.grad = torch.zeros_like(weight)
        for group in self._optimizer.param_groups:
            group["lr"] = 0.0
        if self._device_skips:
            one = torch.ones((), device=self.scale.device)
            self._update(one, one.bool())
        else:
            self._optimizer.step()
            for state in self._optimizer.state.values():
                if "step" in state:
                    state["step"] *= 0  # a number or a tensor
        self.clear()

    def _update(self, factor: Tensor, skipped: Tensor) -> None:
        if self._device_skips:
            self._optimizer.grad_scale = 1 / factor
            self._optimizer.found_inf = skipped.float()
            self._optimizer.step()
        elif not skipped:
            torch._foreach_mul_(self.gradients(), factor)
            self._optimizer.step()
