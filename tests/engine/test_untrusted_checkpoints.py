"""A checkpoint from an untrusted source is loaded as it was saved, or refused by name."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support import hostile
from support.hostile import DONE

from engine.storage import manifest
from engine.storage.checkpoints import Checkpoints

pytestmark = [pytest.mark.timeout(60), pytest.mark.filterwarnings("ignore")]


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
