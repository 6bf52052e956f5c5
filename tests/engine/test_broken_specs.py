"""Specs broken at random either load or say what is wrong and where: never anything else."""

from __future__ import annotations

import copy
import json
import random
import re
import time
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from engine import spec as specs
from engine.errors import EngineError
from engine.permissions import Permissions
from engine.source import read

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


@pytest.fixture
def check(composed_once, monkeypatch, tmp_path) -> Callable[[bytes], bool]:
    """Whether a spec loads; fails if loading ends in another way, or writes anything."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "spec.yaml"

    def loads(text: bytes) -> bool:
        file.write_bytes(text)
        problems = []
        try:
            loaded = specs.load_spec(file)
        except EngineError as error:
            problems = str(error).split("\n")
            status = error.exit_status
        assert list(tmp_path.iterdir()) == [file]
        if not problems:
            resolved = yaml.safe_load(specs.resolved_yaml(loaded))
            assert specs.spec_class(loaded.plugins).model_validate(resolved) == loaded.spec
            return True
        placeless = [p for p in problems if not re.match(rf"{re.escape(str(file))}:\d+: ", p)]
        assert (status, placeless) == (2, [])
        return False

    return loads


@pytest.fixture
def whole(tiny_spec) -> Any:
    """The tiny spec with something of every kind added."""
    stages = tiny_spec["stages"]
    train = stages["base"]["train"]
    hub = {"path": "org/name", "revision": "0123abc"}
    stages["chat"] = {
        "train": train
        | {
            "model": {"type": "stage", "stage": "base"},
            "batch": {"tokens": 256, "sequence": 16, "ramp": {"every": "1k tokens"}},
            "checkpoint": {"every": "10 minutes", "keep": 3},
            "callbacks": [{"type": "early-stop", "metric": "perplexity"}],
            "freeze": ["*.embed_tokens.*"],
        }
    }
    stages["hub"] = {
        "train": train
        | {
            "model": {"type": "pretrained", **hub},
            "data": {"type": "hugging-face", **hub},
            "holdout": 0.1,
        }
    }
    stages["scores"] = {
        "evaluate": {"models": ["base", "chat"], "data": "corpus", "evaluators": ["perplexity"]}
    }
    return tiny_spec


@settings(max_examples=500, deadline=None, derandomize=True, database=None)
@given(chance=st.randoms(use_true_random=False))
def _five_hundred(check: Callable[[bytes], bool], whole: Any, chance: random.Random) -> None:
    check(broken(whole, chance))


def test_a_broken_spec_says_what_is_wrong_and_where(check, whole):
    """Whatever is broken, each problem has its file and line, and nothing is written."""
    assert check(_yaml(whole).encode())
    _five_hundred(check, whole)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_ten_thousand_broken_specs(check, whole):
    """The same, twenty times as many."""
    started = time.monotonic()
    valid = sum(check(broken(whole, random.Random(seed))) for seed in range(10_000))
    print(f"10000 broken specs in {time.monotonic() - started:.0f} s; {valid} still valid")
    assert 0 < valid < 10_000


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_value_replaced_by_every_odd_one(check, whole):
    """One at a time, so that no field is left out."""
    started = time.monotonic()
    loaded = []
    for place in _places(whole):
        for odd in ODD:
            data = copy.deepcopy(whole)
            node, key = _at(data, place)
            node[key] = odd
            loaded.append(check(_yaml(data).encode("utf-8", "surrogatepass")))
    seconds = time.monotonic() - started
    print(f"{len(loaded)} specs in {seconds:.0f} s; {sum(loaded)} still valid")


def broken(whole: Any, chance: random.Random) -> bytes:
    """A spec with some faults in its values or in its text."""
    data = chance.choice([whole, *_ready()])
    faults = range(chance.choice([1, 1, 1, 2, 4]))
    in_text = chance.random() < 0.3
    if not in_text:
        for _ in faults:
            data = _fault(data, chance)
    dump = chance.choice([_yaml, partial(json.dumps, indent=1)])  # JSON is YAML, too
    raw = dump(data).encode("utf-8", "surrogatepass")
    for _ in faults if in_text else ():
        raw = _garbled(raw, chance)
    return raw


@cache
def _ready() -> list[Any]:
    """The ready specs, with what they extend."""
    return [
        read(file, Permissions()).data
        for file in sorted(Path(__file__).parents[2].glob("specs/*.yaml"))
    ]


_yaml = partial(yaml.safe_dump, allow_unicode=True, sort_keys=False)


def _fault(data: Any, chance: random.Random) -> Any:
    """The data with one value or key deleted, renamed, replaced, moved or doubled."""
    places = list(_places(data))
    if not places:
        return chance.choice(ODD)
    data = copy.deepcopy(data)
    node, key = _at(data, chance.choice(places))
    match chance.choice(["delete", "rename", "odd", "odd", "move", "double", "edit"]):
        case "delete":
            del node[key]
        case "rename" if isinstance(node, dict):
            node[_edited(str(key), chance)] = node.pop(key)
        case "move":
            other, where = _at(data, chance.choice(places))
            node[key] = copy.deepcopy(other[where])
        case "double" if isinstance(node, list):
            node.insert(key, copy.deepcopy(node[key]))
        case "edit" if isinstance(node[key], str):
            node[key] = _edited(node[key], chance)
        case _:
            node[key] = copy.deepcopy(chance.choice(ODD))
    return data


def _garbled(raw: bytes, chance: random.Random) -> bytes:
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


def _edited(text: str, chance: random.Random) -> str:
    at = chance.randrange(len(text) + 1)
    return text[:at] + chance.choice([*GARBAGE, "", "x", "9", " "]) + text[at + 1 :]


def _places(data: Any, at: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    parts = (
        data.items()
        if isinstance(data, dict)
        else enumerate(data)
        if isinstance(data, list)
        else ()
    )
    for key, value in parts:
        yield (*at, key)
        yield from _places(value, (*at, key))


def _at(data: Any, path: tuple[Any, ...]) -> tuple[Any, Any]:
    for key in path[:-1]:
        data = data[key]
    return data, path[-1]
