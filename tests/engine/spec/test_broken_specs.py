"""Specs broken at random either load or say what is wrong and where: never anything else."""

from __future__ import annotations

import copy
import json
import random
import re
import time
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings, strategies as st
from support.mutations import ODD, fault, garbled, holder, places

from engine.errors import EngineError
from engine.spec import loading as specs
from engine.spec.overrides import read
from engine.spec.permissions import Permissions


@pytest.fixture
def check(monkeypatch, tmp_path) -> Callable[[bytes], bool]:
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


def test_the_messages_stay(golden, monkeypatch, tmp_path, whole):
    """Of two hundred broken specs."""
    monkeypatch.chdir(tmp_path)
    whole["stages"]["corpus"]["prepare"]["sources"] = [{"type": "files", "paths": ["texts/*.txt"]}]
    messages = {}
    for seed in range(200):
        Path("spec.yaml").write_bytes(broken(whole, random.Random(seed)))
        try:
            specs.load_spec(Path("spec.yaml"))
        except EngineError as error:
            messages[seed] = str(error).replace(str(tmp_path), "HERE").split("\n")
    golden.check("messages", messages)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(10))
def test_ten_thousand_broken_specs(check, whole, part):
    """The same, a thousand in each part; a part's number is the thousands of its seeds."""
    started = time.monotonic()
    seeds = range(1000 * part, 1000 * (part + 1))
    valid = sum(check(broken(whole, random.Random(seed))) for seed in seeds)
    print(f"broken specs {seeds}: {time.monotonic() - started:.0f} s, {valid} still valid")
    assert 0 < valid < 1000


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_every_value_replaced_by_every_odd_one(check, whole):
    """One at a time, so that no field is left out."""
    started = time.monotonic()
    loaded = []
    for place in places(whole):
        for odd in ODD:
            data = copy.deepcopy(whole)
            node, key = holder(data, place)
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
            data = fault(data, chance)
    dump = chance.choice([_yaml, partial(json.dumps, indent=1)])  # JSON is YAML, too
    raw = dump(data).encode("utf-8", "surrogatepass")
    for _ in faults if in_text else ():
        raw = garbled(raw, chance)
    return raw


@cache
def _ready() -> list[Any]:
    """The ready specs, with what they extend."""
    return [
        read(file, Permissions()).data
        for file in sorted(Path(__file__).parents[3].glob("specs/*.yaml"))
    ]


_yaml = partial(yaml.safe_dump, allow_unicode=True, sort_keys=False)
