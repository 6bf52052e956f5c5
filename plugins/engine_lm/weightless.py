"""Models without memory for their weights, from which exact sizes are read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any

import torch

from engine import ModelShape, forward_flops, register_architectures
from engine_lm import shapes

_WITHOUT_ATTENTION = {"num_attention_heads": 1, "head_dim": 0, "intermediate_size": 1}
"""What the config of a model without attention does not name; its exact size makes up for it."""
_STANDARD = ("num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size")


def _model(config: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)


def _count(model: Any) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def built_shape(fields: Mapping[str, Any]) -> ModelShape | None:
    """The sizes of the model that these fields of a config.json give, ``model_type`` among them.

    None where the architecture cannot be built from them, which is told where it is built to be used.
    """
    return _built_shape(json.dumps(fields, sort_keys=True))


@lru_cache(maxsize=32)
def _built_shape(written: str) -> ModelShape | None:
    from transformers import CONFIG_MAPPING

    given = json.loads(written, object_hook=_with_floats)
    if given.get("model_type") not in CONFIG_MAPPING:
        register_architectures()
    try:
        config = CONFIG_MAPPING[given["model_type"]].from_dict(given)
        model = _model(config)
    except Exception:  # an architecture may raise anything about its fields
        return None
    told = {name: value for name, value in config.to_dict().items() if value is not None}
    # Some configs compute sizes; one whose layers have sizes of their own does not give those it has.
    standard = {name: getattr(config, name, None) for name in _STANDARD if name not in told}
    told |= {name: value for name, value in standard.items() if isinstance(value, int)}
    found = shapes.shape(told) or shapes.shape({**_WITHOUT_ATTENTION, **told}) or _largest(told)
    return (
        None
        if found is None
        else replace(found, parameters=_count(model), forward=forward_flops(model))
    )


def _largest(told: Mapping[str, Any]) -> ModelShape | None:
    """The sizes of the largest model within one that consists of several, such as BLT."""
    inner = [value for value in told.values() if isinstance(value, dict)]
    found = [s for s in (shapes.shape({**told, **fields}) for fields in inner) if s]
    return max(found, key=lambda s: s.layers * s.hidden_size, default=None)


def _with_floats(fields: dict[str, Any]) -> Any:
    """Numbers that JSON lacks, as transformers writes them: ``{"__float__": "Infinity"}``."""
    return float(fields["__float__"]) if set(fields) == {"__float__"} else fields
