"""The guide's spec, cut down to some of its components: the example of a new plugin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from engine_tools import guide

_STAND_INS: Mapping[str, Mapping[str, Any]] = {
    "characters": {"type": "bpe", "vocab_size": 512},
    "small-gpt": {"type": "llama", "hidden_size": 32, "layers": 2, "heads": 2, "context": 64},
    "adafactor": {"type": "adamw"},
    "sums": {"type": "arithmetic", "records": "completion"},
    "answers": {"type": "sft"},
    "reinforce": {
        "type": "rloo",
        "reward": None,
        "rewards": [{"type": "brevity"}],
        "answers": 2,
        "answer_tokens": 8,
    },
    "brevity": {"type": "length"},
}
"""What changes where a built-in component replaces one of the guide's, by the latter's type."""
_HEAD = "# A small run with everything that this plugin brings; seconds on one core.\n"


def example_spec(plugin: str, types: Mapping[str, str]) -> str:
    """The guide's spec, with the components of a new plugin: ``types`` has their types by the guide's.

    Built-in components replace those of the guide that the plugin does not have and a stage needs. Left
    out are stages after the first train stage and the last that uses one of the plugin's components.
    """
    spec = yaml.safe_load(guide.spec())
    own = {example.type for example in guide.examples().values()} | _STAND_INS.keys()
    names = list(spec["stages"])
    using = [n for n, name in enumerate(names) if types.keys() & set(_types(spec["stages"][name]))]
    kept = names[: max(2, using[-1] + 1)]
    spec |= {"name": f"{plugin}-example", "plugins": [plugin]}
    spec["stages"] = {name: _changed(spec["stages"][name], types, own) for name in kept}
    return _HEAD + yaml.safe_dump(spec, sort_keys=False, default_flow_style=None, width=100)


def _changed(node: Any, types: Mapping[str, str], own: set[str]) -> Any:
    """A part of the spec with other types; None for a component that nothing replaces."""
    if isinstance(node, list):
        return [new for item in node if (new := _changed(item, types, own)) is not None]
    if not isinstance(node, dict):
        return node
    used = str(node.get("type"))
    if used in types:
        node = {**node, "type": types[used]}
    elif used in _STAND_INS:
        node = {**node, **_STAND_INS[used]}
    elif used in own:
        return None
    parts = {name: _changed(part, types, own) for name, part in node.items()}
    return {name: part for name, part in parts.items() if part not in (None, [])}


def _types(node: Any) -> Iterator[str]:
    """The types of all components in a part of the spec."""
    if isinstance(node, dict):
        yield str(node.get("type"))
        node = list(node.values())
    if isinstance(node, list):
        for part in node:
            yield from _types(part)
