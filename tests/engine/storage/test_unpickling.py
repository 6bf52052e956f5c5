"""What a checkpoint says is data: no code of it runs, though its checksums are right."""

from __future__ import annotations

import io
import os
import pathlib
import pickle
from pathlib import Path

import pytest
import torch
from torch.distributed.checkpoint.metadata import MetadataIndex

from engine.errors import RunError
from engine.storage import manifest
from engine.storage.checkpoints import Checkpoints


class _Attack:
    """Makes a file when it is unpickled."""

    def __init__(self, made: Path) -> None:
        self.made = made

    def __reduce__(self):
        return os.mkdir, (str(self.made),)


@pytest.fixture
def checkpoints(tmp_path):
    """One checkpoint, with a value that is no tensor in it."""
    made = Checkpoints(tmp_path / "checkpoints", background=False)
    made.save({"w": torch.ones(3), "word": "plain"}, {"at": 1}, step=1, score=None)
    return made


def _sealed_anew(folder: Path) -> None:
    manifest.complete(folder, step=1, world_size=1, score=None)


def _metadata(folder: Path):
    return pickle.loads((folder / "tensors" / ".metadata").read_bytes())


def _load(checkpoints: Checkpoints) -> None:
    checkpoints.load(checkpoints.latest(), {"w": torch.zeros(3), "word": ""})


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_metadata_runs_no_code(checkpoints, tmp_path, protocol):
    """Whatever the pickle's protocol: it is named, with the function that it asks for."""
    folder = checkpoints.latest().folder
    file = folder / "tensors" / ".metadata"
    file.write_bytes(pickle.dumps(_Attack(tmp_path / "hacked"), protocol))
    _sealed_anew(folder)
    with pytest.raises(RunError, match=r"\.metadata: is not a checkpoint's metadata .*\.mkdir"):
        _load(checkpoints)
    assert not (tmp_path / "hacked").exists()


def test_metadata_with_an_attack_in_a_field_runs_no_code(checkpoints, tmp_path):
    """In the middle of what is otherwise right."""
    folder = checkpoints.latest().folder
    metadata = _metadata(folder)
    metadata.planner_data = {"w": _Attack(tmp_path / "hacked")}
    (folder / "tensors" / ".metadata").write_bytes(pickle.dumps(metadata))
    _sealed_anew(folder)
    with pytest.raises(RunError, match="which is not allowed"):
        _load(checkpoints)
    assert not (tmp_path / "hacked").exists()


def test_a_value_that_is_no_tensor_runs_no_code(checkpoints, tmp_path):
    """torch itself would unpickle it whatever it is."""
    folder = checkpoints.latest().folder
    metadata = _metadata(folder)
    (where,) = (v for k, v in metadata.storage_data.items() if k.fqn == "word")
    file = folder / "tensors" / where.relative_path
    saved = io.BytesIO()
    torch.save(_Attack(tmp_path / "hacked"), saved)
    where.offset, where.length = file.stat().st_size, len(saved.getvalue())
    file.write_bytes(file.read_bytes() + saved.getvalue())
    (folder / "tensors" / ".metadata").write_bytes(pickle.dumps(metadata))
    _sealed_anew(folder)
    with pytest.raises(RunError, match="its tensors are not those of this stage"):
        _load(checkpoints)
    assert not (tmp_path / "hacked").exists()


def test_metadata_that_names_a_file_elsewhere_is_refused(checkpoints, tmp_path):
    """Tensors come only from files whose checksums were compared."""
    folder = checkpoints.latest().folder
    metadata = _metadata(folder)
    name = next(iter(metadata.storage_data.values())).relative_path
    (tmp_path / "elsewhere").write_bytes((folder / "tensors" / name).read_bytes())
    for stored in metadata.storage_data.values():
        stored.relative_path = "../../../elsewhere"
    (folder / "tensors" / ".metadata").write_bytes(pickle.dumps(metadata))
    _sealed_anew(folder)
    with pytest.raises(RunError, match="elsewhere' is not a file of this checkpoint"):
        _load(checkpoints)


@pytest.mark.parametrize("raw", [b"", b"\x80", b"junk", pickle.dumps({}), pickle.dumps(None)])
def test_what_is_no_metadata_is_named(checkpoints, raw):
    """In one line, with the way out."""
    folder = checkpoints.latest().folder
    (folder / "tensors" / ".metadata").write_bytes(raw)
    _sealed_anew(folder)
    with pytest.raises(
        RunError, match=rf"is not a checkpoint's metadata .*remove {folder} and run again"
    ):
        _load(checkpoints)


def test_another_stages_tensors_are_refused_in_a_line(checkpoints):
    """Of another shape, or without one that is asked for."""
    for tensors in (
        {"w": torch.zeros(4), "word": ""},
        {"w": torch.zeros(3), "more": torch.ones(1)},
    ):
        with pytest.raises(RunError, match="its tensors are not those of this stage") as caught:
            checkpoints.load(checkpoints.latest(), tensors)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "owner",
    [
        "pathlib PosixPath",
        "torch.distributed.checkpoint.metadata MetadataIndex",
        "torch.serialization _get_layout",
    ],
)
def test_metadata_changes_nothing_that_others_use(checkpoints, owner):
    """A pickle may name a class, and give it attributes: they would be those of every path, say."""
    folder = checkpoints.latest().folder
    state = pickle.dumps((None, {"attacked": True}), 2)[2:-1]
    named = f"c{owner.replace(' ', chr(10))}\n".encode()
    (folder / "tensors" / ".metadata").write_bytes(b"\x80\x02" + named + state + b"b.")
    _sealed_anew(folder)
    with pytest.raises(
        RunError, match=r"\.metadata: is not a checkpoint's metadata .*it sets attributes of a"
    ):
        _load(checkpoints)
    assert not hasattr(pathlib.PurePosixPath, "attacked")
    assert not hasattr(MetadataIndex, "attacked")
    assert not hasattr(torch.serialization._get_layout, "attacked")
