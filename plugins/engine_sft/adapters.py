"""LoRA and DoRA by peft, applied inside the model, whose class and call signature stay the same."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import cast

from torch import nn

from engine import Context, SpecError
from engine.modeling import backbone
from engine_sft.config import DoRA, LoRA

_WITH_FUSED_STATES = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}
"""Architectures whose kernels read the weight of ``out_proj`` without calling its module, so without an
adapter, which peft refuses there."""


class LowRank:
    """See :class:`engine.Adapter`."""

    def __init__(self, config: LoRA, *, by_direction: bool) -> None:
        self._config = config
        self._by_direction = by_direction

    def attach(self, model: nn.Module) -> nn.Module:
        """Adds the adapter to the model. Raises SpecError where no layer matches."""
        from peft import LoraConfig, inject_adapter_in_model
        from transformers.pytorch_utils import Conv1D

        linear = linear_layers(model)
        globs = self._config.targets
        targets = [name for name in linear if any(fnmatchcase(name, glob) for glob in globs)]
        if not targets:
            raise SpecError(
                f"adapter: no linear layer matches {' or '.join(globs)}",
                hint=f"names are: {', '.join(linear[:4])} …",
            )
        settings = LoraConfig(
            r=self._config.r,
            lora_alpha=cast("int", self._config.alpha),
            lora_dropout=self._config.dropout,
            target_modules=targets,
            use_dora=self._by_direction,
            fan_in_fan_out=any(isinstance(model.get_submodule(t), Conv1D) for t in targets),
        )
        model.requires_grad_(False)
        return inject_adapter_in_model(settings, model)

    def merge(self, model: nn.Module) -> nn.Module:
        """Merges the adapter into the weights, so that all layers are plain ones again."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        added = [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
        for name, layer in reversed(added):  # a layer in another one before that
            layer.merge()
            model.set_submodule(name, layer.get_base_layer())
        vars(model).pop("peft_config", None)  # absent if the head, and so the model, was replaced
        return model


def linear_layers(model: nn.Module) -> list[str]:
    """Names of all linear layers except the head, and except those that compute something else."""
    from transformers.pytorch_utils import Conv1D

    forward = {nn.Linear.forward, Conv1D.forward}
    inside = {id(m) for m in backbone(model).modules() if type(m).forward in forward}
    named = [name for name, module in model.named_modules() if id(module) in inside]
    if getattr(model.config, "model_type", None) not in _WITH_FUSED_STATES:
        return named
    return [name for name in named if name.rpartition(".")[2] != "out_proj"]


def build_lora(config: LoRA, context: Context) -> LowRank:
    """LoRA."""
    return LowRank(config, by_direction=False)


def build_dora(config: DoRA, context: Context) -> LowRank:
    """DoRA."""
    return LowRank(config, by_direction=True)
