"""A model's folder from an untrusted source is opened, or refused in a line, and runs no code."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import hostile
from support.hostile import DONE

from engine.storage.model_folder import Artifact

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore")]


def _json(file: Path, change: Callable[[Any], Any]) -> None:
    data = json.loads(file.read_text())
    file.write_text(json.dumps(change(data) or data))


def _config(**fields: Any) -> Callable[[Path], None]:
    return lambda folder: _json(folder / "config.json", lambda data: data | fields)


def _header(length: int, rest: bytes) -> Callable[[Path], object]:
    content = struct.pack("<Q", length) + rest
    return lambda folder: (folder / "model.safetensors").write_bytes(content)


def _piped(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return attack


def _indexed(name: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / "model.safetensors").unlink()
        index = folder / "model.safetensors.index.json"
        index.write_text(json.dumps({"weight_map": {"lm_head.weight": name}}))

    return attack


def _overlap(folder: Path) -> None:
    tensor = {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}
    header = json.dumps({"a": tensor, "b": tensor}).encode()
    _header(len(header), header + bytes(4))(folder)


MODEL: dict[str, tuple[Callable[[Path], object], str]] = {
    "no heads": (_config(num_attention_heads=0), "gives num_attention_heads as 0"),
    "fewer than no layers": (_config(num_hidden_layers=-1), "num_hidden_layers as -1"),
    "heads of no width": (_config(head_dim=0), "cannot be opened|not supported|its weight"),
    "a width as a word": (_config(hidden_size="wide"), "cannot be opened"),
    "a vocabulary as a list": (_config(vocab_size=[]), "cannot be opened"),
    "another width": (_config(hidden_size=64), "json needs|cannot be opened"),
    "another type": (_config(model_type="../llama"), "cannot be opened"),
    "a type as a number": (_config(model_type=5), "names no model_type"),
    "code of its own": (
        _config(model_type="mine", auto_map={"AutoModelForCausalLM": "m.M"}),
        "code of its own",
    ),
    "an unknown activation": (_config(hidden_act="os.system"), "cannot be opened"),
    "a list for a configuration": (
        lambda folder: (folder / "config.json").write_text("[1]"),
        "instead of fields",
    ),
    "a configuration that is a pipe": (_piped("config.json"), "no config.json"),
    "a configuration of 100,000 levels": (
        lambda folder: (folder / "config.json").write_text("[" * 100_000),
        "nested too deeply",
    ),
    "a kernel from a hub": (
        _config(attn_implementation="evil/kernel"),
        "'evil/kernel', which is external code",
    ),
    "weights elsewhere": (
        _indexed("../other/model.safetensors"),
        "not a safetensors file beside it",
    ),
    "weights that are pickled": (_indexed("model.bin"), "not a safetensors file beside it"),
    "a header of 2^63 bytes": (_header(1 << 63, b"{}"), "truncated"),
    "a header that is a list": (_header(2, b"[]"), "header cannot be read"),
    "tensors that overlap": (_overlap, "cannot be opened|lacks weights"),
    "a dtype that is a path": (_config(dtype="os.system"), ""),
}


@pytest.mark.parametrize("attack", MODEL)
def test_a_model_folder(attack, finished_run, tmp_path):
    """It is opened, or refused in a line with the folder in it; its code never runs."""
    harm, expected = MODEL[attack]
    place = hostile.copied_model(finished_run / "base" / "final", tmp_path / "model")
    harm(place)
    hostile.check(hostile.open_folder(place), expected)


@pytest.mark.parametrize("names", [5, [5], [], ["pipeline"], ["os.system"], ["AutoTokenizer"], "x"])
def test_a_class_that_is_no_model(names, finished_run, tmp_path):
    """Whatever a folder calls its class: a line, or the class of its type where there is none."""
    place = hostile.copied_model(finished_run / "base" / "final", tmp_path / "model")
    _config(architectures=names)(place)
    said = hostile.outcome(Artifact(place).model)
    hostile.check(said, DONE if names == [] else str(place))


def test_an_auto_class_asks_nobody_whether_code_may_run(finished_run, tmp_path, monkeypatch):
    """Somebody who types `y` for another reason would have allowed it."""
    place = hostile.copied_model(finished_run / "base" / "final", tmp_path / "model")
    mapped = {"AutoModelForImageClassification": "mine.Model"}
    _config(architectures=["AutoModelForImageClassification"], auto_map=mapped)(place)
    (place / "mine.py").write_text("raise SystemExit('it ran')")
    monkeypatch.setattr("builtins.input", lambda told: "y")
    hostile.check(hostile.outcome(Artifact(place).model), "its model cannot be opened")
