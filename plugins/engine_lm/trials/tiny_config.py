"""A small config of an architecture, with its special features on.

A model of it takes milliseconds, and a row of some twenty tokens passes every window and chunk.
"""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

_DEPTHS = ("num_hidden_layers", "n_layer", "n_layers", "num_layers")
_MOST_LAYERS = 8
_DRAWN = re.compile("drop|jitter")
"""Chances, which processes draw apart from each other."""


@cache
def _table() -> dict[str, Any]:
    text = files("engine_lm.trials").joinpath("sizes.yaml").read_text(encoding="utf-8")
    table: dict[str, Any] = yaml.safe_load(text)
    table["common"] = {n: size for size, names in table["common"].items() for n in names}
    return table


def tiny_config(architecture: str) -> dict[str, Any]:
    """The fields of a small config of this ``model_type``, without vocabulary and token ids."""
    from transformers import AutoConfig

    own: dict[str, Any] = _table()["own"].get(architecture, {})
    usual = AutoConfig.for_model(architecture).to_dict()
    small: dict[str, Any] = {
        name: _smaller(name, size, usual)
        for name, size in _table()["common"].items()
        if (type(usual.get(name)) is int and usual[name] > 0)
        or (name == "num_key_value_heads" and name in usual)
    }
    small |= {name: 0.0 for name in usual if _DRAWN.search(name) and type(usual[name]) is float}
    small |= _layers(usual)
    return small | own


def _smaller(name: str, size: int, usual: dict[str, Any]) -> int:
    return size if usual[name] is None else min(size, int(usual[name]))


def _layers(usual: dict[str, Any]) -> dict[str, Any]:
    """As many layers as there are kinds of them, and the lists that tell each layer's kind."""
    depth = next((usual[name] for name in _DEPTHS if name in usual), 0)
    lists = {
        name: value
        for name, value in usual.items()
        if isinstance(value, list) and len(value) == depth > 1
    }
    count = max((_first_with_all(kinds) for kinds in lists.values()), default=2)
    count = min(max(count, 2), _MOST_LAYERS)
    small: dict[str, Any] = {name: kinds[:count] for name, kinds in lists.items()}
    return small | {name: count for name in _DEPTHS if name in usual}


def _first_with_all(kinds: list[Any]) -> int:
    """The length of the shortest beginning that has every kind."""
    return max(kinds.index(kind) for kind in kinds) + 1
