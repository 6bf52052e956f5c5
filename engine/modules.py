"""Parts of a causal language model, and model and objective as one module.

Shapes: B rows, T positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine.component import Batch, Objective, Setup
from engine.errors import RunError

_AFTER_HEAD = {"final_logit_softcapping": None, "logit_scale": 1.0, "logits_scaling": 1.0}
"""What transformers' configurations call that, and its value where nothing is changed."""


def backbone(model: nn.Module) -> nn.Module:
    """The model without its head: gives ``last_hidden_state``."""
    return cast("nn.Module", model.base_model)


def head(model: nn.Module) -> nn.Module:
    """The output head: ``weight_VD`` and perhaps ``bias_V``.

    Raises RunError for a model that changes its logits afterwards, as they would all be wrong.
    """
    config = cast("Any", model).config
    for name, usual in _AFTER_HEAD.items():
        if getattr(config, name, usual) != usual:
            raise RunError(
                f"model '{config.model_type}' changes its logits after the head, by {name} of "
                f"{getattr(config, name)}, which is not supported",
                mend="use a model without it",
            )
    return cast("nn.Module", cast("Any", model).get_output_embeddings())


def hidden_states(model: nn.Module, **inputs: Tensor) -> Tensor:
    """``_BTD``. Never with a cache: it would let packed documents see each other."""
    return cast("Tensor", backbone(model)(**inputs, use_cache=False).last_hidden_state)


def layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a transformer: its longest list of modules."""
    lists = [
        list(m.values()) if isinstance(m, nn.ModuleDict) else list(m)
        for m in module.modules()
        if isinstance(m, nn.ModuleList | nn.ModuleDict)
    ]
    return max(lists, key=len, default=[])


def compile_layers(module: nn.Module) -> None:
    """Layer by layer: they share one compiled graph, so it takes seconds and not minutes."""
    for layer in layers(module):
        layer.compile(dynamic=False)


def place(batch: Batch, device: torch.device, setup: Setup) -> Batch:
    """The batch on the device, with what frozen models say of it."""

    def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: t.to(device, non_blocking=True) for name, t in tensors.items()}

    placed = Batch(moved(batch.inputs), moved(batch.targets), batch.counts, batch.tokens)
    with torch.no_grad():
        return setup.objective.annotate(placed, setup.frozen)


class ObjectiveModule(nn.Module):
    """Model and objective as one module, so that wrappers (DDP, FSDP …) hold the loss as well."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's sums by term."""
        hidden_BTD = hidden_states(self.model, **batch.inputs)
        return self._objective.loss(hidden_BTD, head(self.model), batch)
