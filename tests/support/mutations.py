"""Faults in plain data, text and bytes, drawn at random."""

from __future__ import annotations

import copy
import random
from collections.abc import Iterator
from typing import Any

ODD: list[Any] = [
    None, True, False, 0, -1, 1, 2**70, 10**400, 0.5, -0.0, float("nan"), float("inf"), "", " ",
    "corpus", "base", "stage", "no such", "1e400 steps", "0 steps", "50%", "nan%", "4M tokens",
    "1" * 5000, "x" * 5000,
    "\0", "\ud800", "../..", "/", "~", "[*", "!!int x", "2020-13-45", [], {}, [[]], [None], [{}],
    {"type": "stage"}, {"type": None}, {"type": []}, {"type": {"type": "x"}}, {"stage": "base"},
    {"type": "stage", "stage": 3}, {"steps": "many"}, {"": 1}, {"a.b": {"c": [1, {"d": None}]}},
]  # fmt: skip
GARBAGE = [
    *"\t:{}[]&*!|>'\"%@`#,-?\0\r\n\x85\u2028\ufeff\ud7ff",
    "<<: ",
    "&a ",
    "*a",
    "!!x ",
    "---\n",
]


def fault(data: Any, chance: random.Random) -> Any:
    """The data with one value or key deleted, renamed, replaced, moved or doubled."""
    found = list(places(data))
    if not found:
        return chance.choice(ODD)
    data = copy.deepcopy(data)
    node, key = holder(data, chance.choice(found))
    match chance.choice(["delete", "rename", "odd", "odd", "move", "double", "edit"]):
        case "delete":
            del node[key]
        case "rename" if isinstance(node, dict):
            node[edited(str(key), chance)] = node.pop(key)
        case "move":
            other, where = holder(data, chance.choice(found))
            node[key] = copy.deepcopy(other[where])
        case "double" if isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key]))
        case "edit" if isinstance(node[key], str):
            node[key] = edited(node[key], chance)
        case _:
            node[key] = copy.deepcopy(chance.choice(ODD))
    return data


def garbled(raw: bytes, chance: random.Random) -> bytes:
    """The text cut off, or with bytes, lines or characters in it that do not belong there."""
    at = chance.randrange(len(raw) + 1)
    lines = raw.split(b"\n")
    match chance.choice(["cut", "bytes", "character", "double", "indent", "drop", "swap"]):
        case "cut":
            return raw[:at]
        case "bytes":
            return raw[:at] + chance.randbytes(chance.randint(1, 4)) + raw[at:]
        case "character":
            return raw[:at] + chance.choice(GARBAGE).encode() + raw[at:]
        case "double":
            lines.insert(chance.randrange(len(lines)), chance.choice(lines))
        case "indent":
            number = chance.randrange(len(lines))
            lines[number] = chance.choice([b" ", b"\t", b"   "]) + lines[number]
        case "drop":
            del lines[chance.randrange(len(lines))]
        case _:
            chance.shuffle(lines)
    return b"\n".join(lines)


def edited(text: str, chance: random.Random) -> str:
    """The text with one character replaced, left out or added."""
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice([*GARBAGE, "", "x", "9", " "]) + text[at + 1 :]


def places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The path of every value in plain data."""
    parts = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in parts:
        yield (*at, key)
        yield from places(value, (*at, key))


def holder(data: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
    """What holds the value at a path, and its key there."""
    for key in path[:-1]:
        data = data[key]
    return data, path[-1]
