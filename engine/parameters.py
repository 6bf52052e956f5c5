"""What a spec says about the parameters' optimization, the same for every optimizer and strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from engine.config import OptimizerConfig

if TYPE_CHECKING:
    from torch import Tensor


def _alike(name: str, parameter: Tensor) -> dict[str, Any]:
    return {}


def parameter_groups(
    config: OptimizerConfig,
    parameters: Iterable[tuple[str, Tensor]],
    settings: Callable[[str, Tensor], dict[str, Any]] = _alike,
) -> list[dict[str, Any]]:
    """The groups that a torch optimizer takes, each with ``lr_scale`` and ``weight_decay``.

    Matrices decay as ``config.weight_decay`` says, vectors (norms, biases) do not;
    ``config.groups`` changes both by name. ``settings(name, parameter)`` adds what the optimizer
    itself treats differently; an ``lr_scale`` of its own multiplies the group's.
    """
    groups: dict[str, dict[str, Any]] = {}
    for name, parameter in parameters:
        vector = parameter.ndim < 2 or name.endswith("bias")  # experts' biases are stacked
        decay = 0.0 if vector else config.weight_decay
        group = {"lr_scale": 1.0, "weight_decay": decay, **settings(name, parameter)}
        own = next((g for g in config.groups if fnmatchcase(name, g.match)), None)
        if own is not None:
            group["lr_scale"] *= own.lr_scale
            if own.weight_decay is not None:
                group["weight_decay"] = own.weight_decay
        groups.setdefault(repr(group), {**group, "params": []})["params"].append(parameter)
    return list(groups.values())


def average_decay(decay: float, steps: Tensor) -> Tensor:
    """The decay of the weights' average at its ``steps``-th step (a scalar, from 1): min(decay,
    (1 + t)/(10 + t)), as TensorFlow's and diffusers' averages have it.

    Else the initial weights, which the average begins with, would be most of it for 1/(1 − decay)
    steps: 83 % after 184 steps at 0.999.
    """
    t = steps.float()
    return ((1 + t) / (10 + t)).clamp(max=decay)
