"""Parameter groups and averages of weights, the same for every optimizer and strategy."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from engine.contracts.component_config import OptimizerConfig

if TYPE_CHECKING:
    from torch import Tensor


def _no_settings(name: str, parameter: Tensor) -> dict[str, Any]:
    return {}


def parameter_groups(
    config: OptimizerConfig,
    parameters: Iterable[tuple[str, Tensor]],
    settings: Callable[[str, Tensor], dict[str, Any]] = _no_settings,
) -> list[dict[str, Any]]:
    """Parameter groups for a torch optimizer, each with ``lr_scale`` and ``weight_decay``.

    Matrices decay by ``config.weight_decay``, vectors (norms, biases) do not; ``config.groups``
    overrides both by parameter name. ``settings(name, parameter)`` adds options of the optimizer's own;
    its ``lr_scale``, if any, is multiplied by that of ``config.groups``.
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
    """Decay of the moving average of weights at step ``steps`` (a scalar t, from 1):
    min(decay, (1 + t)/(10 + t)), as in TensorFlow and diffusers.

    Without this warm-up the initial weights would make up most of the average for 1/(1 − decay) steps:
    83 % after 184 steps at 0.999.
    """
    step = steps.float()
    return ((1 + step) / (10 + step)).clamp(max=decay)
