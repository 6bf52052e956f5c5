"""Training without dropout, whatever form a model's dropout has."""

from __future__ import annotations

from typing import Any

from torch import nn
from torch.nn.modules.dropout import _DropoutNd


def turn_off(model: nn.Module) -> None:
    """Sets every dropout rate in the model to 0; its configuration, which is exported, stays.

    Rates are those of dropout modules, numbers that modules hold for functional dropout (such as
    ``attention_dropout``), and numbers that they read from the configuration as they run.
    """
    from transformers import PreTrainedModel

    for module in model.modules():
        if isinstance(module, _DropoutNd):
            module.p = 0.0
        for name, value in vars(module).items():
            if _is_rate(name, value):
                setattr(module, name, 0.0)
        # A model's own configuration is exported, and asked for the attention of all its layers.
        config = vars(module).get("config")
        if config is not None and not isinstance(module, PreTrainedModel) and _has_rates(config):
            module.config = _WithoutRates(config)


class DropoutOff:
    """Part of an objective whose configuration is a :class:`DropoutConfig`, in ``_config``."""

    _config: Any

    def attach(self, model: nn.Module) -> None:
        """See :class:`engine.BaseObjective`."""
        if not self._config.dropout:
            turn_off(model)


class _WithoutRates:
    """A configuration as it is, and as it becomes, but that all its dropout rates read as 0."""

    def __init__(self, config: Any) -> None:
        self._config = config

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "_config":  # copying asks before there is one
            raise AttributeError(name)
        value = getattr(self._config, name)
        return 0.0 if _is_rate(name, value) else value


def _has_rates(config: Any) -> bool:
    return any(_is_rate(name, value) and value for name, value in vars(config).items())


def _is_rate(name: str, value: object) -> bool:
    return "drop" in name and isinstance(value, float)
