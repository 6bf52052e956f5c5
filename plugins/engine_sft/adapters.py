"""LoRA and DoRA by peft, applied inside the model, whose class and call signature stay the same."""

from __future__ import annotations

import warnings
from fnmatch import fnmatchcase
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine import Context, SpecError
from engine.modeling import backbone
from engine_sft.config import DoRA, LoRA

_PEFT_REFUSES_OUT_PROJ = {"falcon_h1", "falcon_mamba", "mamba", "mamba2", "nemotron_h"}


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
        with warnings.catch_warnings():  # of patterns for experts that peft has added by itself
            warnings.filterwarnings("ignore", message="The following (rank|alpha)_pattern keys")
            adapted: nn.Module = inject_adapter_in_model(settings, model)
        for layers in _by_weight(adapted).values():
            for layer in layers[1:]:
                for name, part in layers[0].named_children():
                    if name != "base_layer":
                        setattr(layer, name, part)
        return adapted

    def merge(self, model: nn.Module) -> nn.Module:
        """Merges the adapter into the weights, so that all layers are plain ones again."""
        from peft.tuners.tuners_utils import BaseTunerLayer

        added = [(n, m) for n, m in model.named_modules() if isinstance(m, BaseTunerLayer)]
        merged = {id(layers[0]) for layers in _by_weight(model).values()}
        for name, layer in reversed(added):  # a layer in another one before that
            if id(layer) in merged:
                layer.merge()
            model.set_submodule(name, layer.get_base_layer())
        vars(model).pop("peft_config", None)  # absent if the head, and so the model, was replaced
        return model


def _by_weight(model: nn.Module) -> dict[int, list[Any]]:
    """Adapted layers that have one weight, as in Zamba's shared blocks: they also share an adapter, or
    it could not be merged."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    found: dict[int, list[Any]] = {}
    for module in model.modules():
        if isinstance(module, BaseTunerLayer):
            weight = getattr(module.get_base_layer(), "weight", None)
            found.setdefault(id(module if weight is None else weight), []).append(module)
    return found


def linear_layers(model: nn.Module) -> list[str]:
    """Names of all linear layers that an adapter can change.

    Not the head, nor those that compute something else than a product, nor those whose weight is read
    by the module around them without calling them, as by Mamba's kernels: an adapter there would change
    nothing until it is merged.
    """
    from transformers.pytorch_utils import Conv1D

    named, inside = dict(model.named_modules()), {id(m) for m in backbone(model).modules()}
    linear = {
        n: m for n, m in named.items() if isinstance(m, nn.Linear | Conv1D) and id(m) in inside
    }
    products = _called(model)
    kind = cast("Any", model).config.model_type
    found = []
    for name, module in linear.items():
        around, _, last = name.rpartition(".")
        plain = type(module).forward in (nn.Linear.forward, Conv1D.forward)
        # Experts that no token reaches are not called, nor is what is around their matrices.
        counts = products.get(id(module), plain and id(named[around]) not in products)
        if counts and not (last == "out_proj" and kind in _PEFT_REFUSES_OUT_PROJ):
            found.append(name)
    return found


@torch.no_grad()
def _called(model: nn.Module) -> dict[int, bool]:
    """The modules that the model calls on a few tokens: whether each gives its weight's product."""
    called: dict[int, bool] = {}

    def look(module: nn.Module, given: tuple[Any, ...], out: Any) -> None:
        linear = isinstance(module, nn.Linear) and given
        called[id(module)] = _is_product(cast("Any", module), given[0], out) if linear else True

    mode = model.training
    hooks = [module.register_forward_hook(look) for module in model.modules()]
    try:
        ids = torch.arange(5, device=cast("Any", model).device)[None]
        ids = ids % int(cast("Any", model).config.vocab_size)
        backbone(model.eval())(input_ids=ids, use_cache=False)
    finally:
        model.train(mode)
        for hook in hooks:
            hook.remove()
    return called


def _is_product(module: nn.Linear, given: Tensor, out: Any) -> bool:
    product = nn.functional.linear(given, module.weight, module.bias)
    same = isinstance(out, Tensor) and product.shape == out.shape  # a router may return two
    return same and torch.allclose(product, out, rtol=1e-2, atol=1e-3)


def build_lora(config: LoRA, context: Context) -> LowRank:
    """LoRA."""
    return LowRank(config, by_direction=False)


def build_dora(config: DoRA, context: Context) -> LowRank:
    """DoRA."""
    return LowRank(config, by_direction=True)
