"""Turns dropout off, in whatever form a model has it."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd

from engine_rlhf.config.dropout import DropoutConfig


def turn_off(model: nn.Module) -> None:
    """Sets every dropout rate in the model to 0, but leaves its configuration, which is exported.

    Rates are found in dropout modules, in modules' attributes for functional dropout (such as
    ``attention_dropout``), and in the configuration that modules read in their forward pass.
    """
    from transformers import PreTrainedModel

    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if _is_rate(name, value):
                setattr(module, name, 0.0)
        # A model's own configuration is exported, and sets the attention of all its layers.
        config = vars(module).get("config")
        if config is not None and not isinstance(module, PreTrainedModel) and _has_rates(config):
            vars(module)["config"] = _WithoutRates(config)


class DropoutOff:
    """Mixin of objectives that turn dropout off unless their ``_config`` asks for it."""

    _config: DropoutConfig

    def attach(self, model: nn.Module) -> None:
        """See :class:`engine.Objective`."""
        if not self._config.dropout:
            turn_off(model)


class _WithoutRates:
    """A live view of a configuration in which all dropout rates read as 0."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_config":  # copy reads these before __init__ has run
            raise AttributeError(name)
        value = getattr(self._config, name)
        return 0.0 if _is_rate(name, value) else value


def _has_rates(config: Any) -> bool:
    return any(_is_rate(name, value) and value for name, value in vars(config).items())


def _is_rate(name: str, value: object) -> bool:
    return "drop" in name and isinstance(value, float)
