"""What a checkpoint, a data file and a model's folder from a stranger may do: each attack beside the
outcome that was expected of it."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from support import hostile

from engine.storage import manifest
from engine.storage.checkpoints import Checkpoints
from engine.storage.model_folder import Artifact

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore")]

DONE = "done"


def _json(file: Path, change: Callable[[Any], Any]) -> None:
    data = json.loads(file.read_text())
    file.write_text(json.dumps(change(data) or data))


def _manifest(**fields: Any) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        manifest.complete(folder, **{"step": 1, "world_size": 1, "score": None, **fields})

    return attack


def _state(text: str) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        (folder / "state.json").write_text(text)
        _manifest()(folder)

    return attack


def _tensors(change: Callable[[Any], None]) -> Callable[[Path], None]:
    def attack(folder: Path) -> None:
        file = folder / "tensors" / ".metadata"
        metadata = pickle.loads(file.read_bytes())
        change(metadata)
        file.write_bytes(pickle.dumps(metadata))
        _manifest()(folder)

    return attack


def _sizes(metadata: Any) -> None:
    huge = torch.Size([1 << 50])
    metadata.state_dict_metadata["w"].size = huge
    metadata.state_dict_metadata["w"].chunks[0].sizes = huge


def _cut(metadata: Any) -> None:
    for stored in metadata.storage_data.values():
        stored.offset, stored.length = 1 << 40, 1 << 40


def _pipe(folder: Path) -> None:
    os.mkfifo(folder / "tensors" / "pipe")


def _nested(folder: Path) -> None:
    (folder / "manifest.json").write_text("[" * 100_000)


def _folder_for_file(folder: Path) -> None:
    (folder / "state.json").unlink()
    (folder / "state.json").mkdir()


def _cut_file(folder: Path) -> None:
    file = next((folder / "tensors").glob("*.distcp"))
    file.write_bytes(file.read_bytes()[:-1])


def _emptied(folder: Path) -> None:
    next((folder / "tensors").glob("*.distcp")).write_bytes(b"")
    _manifest()(folder)


CHECKPOINT: dict[str, tuple[Callable[[Path], object], str]] = {
    "a state that is a list": (_state("[]"), "state.json: is not a state of this stage"),
    "a state that is no JSON": (_state("{"), "state.json: is not a state of this stage"),
    "a state of 100,000 levels": (
        _state("[" * 100_000),
        "state.json: is not a state of this stage",
    ),
    "a manifest of 100,000 levels": (_nested, "manifest.json: damaged"),
    "ranks as a word": (_manifest(world_size="two"), "not the manifest of this checkpoint"),
    "a step as a word": (_manifest(step="one"), "not the manifest of this checkpoint"),
    "another step": (_manifest(step=7), "not the manifest of this checkpoint"),
    "a score as a list": (_manifest(score=[]), "not the manifest of this checkpoint"),
    "a score that is no number": (_manifest(score=float("nan")), DONE),
    "a pipe among the tensors": (_pipe, "pipe: is not one of the files"),
    "a folder in a file's place": (_folder_for_file, "state.json: missing"),
    "a file that is cut off": (_cut_file, "damaged"),
    "an empty file of tensors": (_emptied, "its tensors are not those of this stage"),
    "tensors of 2^50 numbers": (_tensors(_sizes), "its tensors are not those of this stage"),
    "tensors behind the end": (_tensors(_cut), "its tensors are not those of this stage"),
}


@pytest.mark.parametrize("attack", CHECKPOINT)
def test_a_checkpoint(attack, tmp_path):
    """It is loaded as it was saved, or refused by name; it runs nothing and reads nothing else."""
    checkpoints = Checkpoints(tmp_path / "checkpoints", background=False)
    checkpoints.save({"w": torch.ones(3)}, {"at": 1}, step=1, score=None)
    (folder,) = (tmp_path / "checkpoints").iterdir()
    harm, expected = CHECKPOINT[attack]
    harm(folder)
    tensors = {"w": torch.zeros(3)}
    said = hostile.outcome(lambda: checkpoints.load(checkpoints.latest(), tensors))
    hostile.check(said, expected)
    assert said != DONE or torch.equal(tensors["w"], torch.ones(3))


def _rows(*lines: str, name: str = "rows.jsonl") -> Callable[[Path], str]:
    def attack(folder: Path) -> str:
        good = [json.dumps({"text": f"text {n}"}) for n in range(20)]
        (folder / name).write_text("\n".join([*good[:10], *lines, *good[10:]]))
        return name

    return attack


def _raw(name: str, content: bytes) -> Callable[[Path], str]:
    def attack(folder: Path) -> str:
        (folder / name).write_bytes(content)
        return name

    return attack


def _table(**columns: list[Any]) -> Callable[[Path], str]:
    def attack(folder: Path) -> str:
        pq.write_table(pa.table(columns), folder / "rows.parquet")
        return "rows.parquet"

    return attack


def _link(target: str) -> Callable[[Path], str]:
    def attack(folder: Path) -> str:
        (folder / "rows.jsonl").symlink_to(target)
        return "rows.jsonl"

    return attack


def _saved(files: Any) -> Callable[[Path], str]:
    def attack(folder: Path) -> str:
        (folder / "state.json").write_text(json.dumps({"_data_files": files}))
        os.mkfifo(folder / "pipe")
        return "."

    return attack


def _made_pipe(folder: Path) -> str:
    os.mkfifo(folder / "rows.jsonl")
    return "rows.jsonl"


_TEXT = b'{"text": "one"}\n'

DATA: dict[str, tuple[Callable[[Path], str], str]] = {
    "a row of 100,000 levels": (_rows('{"text": ' + "[" * 100_000), DONE),
    "a number of 5,000 digits": (_rows('{"text": "a", "n": ' + "9" * 5000 + "}"), DONE),
    "a key twice": (_rows('{"text": "a", "text": "b"}'), DONE),
    "no number for a text": (_rows('{"text": NaN}'), DONE),
    "a list for a row": (_rows("[1, 2]", '"text"', "null"), DONE),
    "a lone surrogate": (_rows('{"text": "\\ud800"}'), DONE),
    "eleven broken rows": (_rows(*["{"] * 11), "11 of 31 rows are bad"),
    "an empty file": (_raw("rows.jsonl", b""), DONE),
    "another encoding": (_raw("rows.jsonl", _TEXT.decode().encode("utf-16")), "rows.jsonl"),
    "a pipe": (_made_pipe, "rows.jsonl"),
    "an endless device": (_link("/dev/zero"), "rows.jsonl"),
    "a link to itself": (_link("rows.jsonl"), "rows.jsonl"),
    "a link to nothing": (_link("no such"), "rows.jsonl"),
    "gzip that is cut off": (
        _raw("rows.jsonl.gz", gzip.compress(_TEXT * 99)[:-20]),
        "rows.jsonl.gz",
    ),
    "gzip that is none": (_raw("rows.jsonl.gz", _TEXT), "rows.jsonl.gz"),
    "zstd that is none": (_raw("rows.jsonl.zst", _TEXT), "rows.jsonl.zst"),
    "a table without rows": (_table(text=[]), ""),
    "a table of numbers": (_table(text=[1, 2]), "rows.parquet"),
    "a table of lists": (_table(text=[["a"], ["b"]]), "rows.parquet"),
    "a table that is text": (_raw("rows.parquet", _TEXT), "rows.parquet"),
    "a quote that does not end": (_raw("rows.csv", b'text\n"one\ntwo'), ""),
    "a field of a million letters": (_raw("rows.csv", b"text\n" + b"x" * 1_000_000 + b"\n"), ""),
    "100,000 columns": (
        _raw("rows.csv", (",".join(f"c{n}" for n in range(100_000)) + "\n").encode()),
        DONE,
    ),
    "a day that Python has not": (
        _table(text=["a"], x=pa.array([1 << 30], pa.date32())),
        "damaged",
    ),
    "a zone that nobody knows": (
        _table(text=["a"], x=pa.array([0], pa.timestamp("us", tz="No/Where"))),
        "damaged",
    ),
    "a saved set that is a word": (_saved("abc"), "is no file of this folder"),
    "a saved set without names": (_saved([{}]), "is no file of this folder"),
    "a saved set of a pipe": (_saved([{"filename": "pipe"}]), "is no file of this folder"),
    "a NUL in a table of text": (_raw("rows.csv", b"text\na\0b\n"), ""),
}
"""An empty outcome: done, or a line; only its form was sure beforehand."""


@pytest.mark.parametrize("attack", DATA)
def test_a_data_file(attack, tmp_path):
    """Each row is given or told as bad; a file that holds no rows is named, and none is waited for."""
    harm, expected = DATA[attack]
    name = harm(tmp_path)
    hostile.check(hostile.read_file(tmp_path / name), expected)


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
