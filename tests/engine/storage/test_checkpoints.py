"""Promise 2: a checkpoint is whole or it is not there."""

from __future__ import annotations

import json
import resource
import signal
from pathlib import Path

import pytest
import torch

from engine.errors import RunError
from engine.modeling.optimizer_groups import average_decay
from engine.storage.checkpoints import Checkpoints


def _tensors(value: float = 1.0) -> dict:
    generator = torch.Generator().manual_seed(int(value))
    return {
        "model": {"w": torch.randn(7, 5, generator=generator), "narrow": torch.ones(3).bfloat16()},
        "step": torch.tensor(value),
        "word": f"value {value}",
    }


def _saved(folder: Path, *steps: int, keep: int = 9, scores: dict | None = None) -> Checkpoints:
    checkpoints = Checkpoints(folder, keep=keep, background=False)
    for step in steps:
        score = (scores or {}).get(step)
        checkpoints.save(_tensors(step), {"at": step}, step=step, score=score)
    return checkpoints


def _save(checkpoints: Checkpoints, tensor: torch.Tensor) -> None:
    checkpoints.save({"w": tensor}, {}, step=2, score=None)
    checkpoints.wait()


def test_what_is_loaded_is_what_was_saved(tmp_path):
    """Tensors of every type, plain values and the state come back bit by bit, in place."""
    checkpoints = _saved(tmp_path, 3)
    tensors = _tensors(0)
    held = tensors["model"]["w"]
    state = checkpoints.load(checkpoints.latest(), tensors)
    assert state == {"at": 3}
    assert tensors["model"]["w"] is held
    assert torch.equal(held, _tensors(3)["model"]["w"])
    assert tensors["model"]["narrow"].dtype == torch.bfloat16
    assert tensors["word"] == "value 3"


def test_a_checkpoint_from_before_a_counter_is_loaded(tmp_path):
    """An average of weights goes on as it was: it did not warm up."""
    checkpoints = _saved(tmp_path, 3)
    counter = torch.zeros((), dtype=torch.int32)
    tensors = _tensors(0) | {"averaged_steps": counter}
    checkpoints.load(checkpoints.latest(), tensors)
    assert torch.equal(tensors["model"]["w"], _tensors(3)["model"]["w"])
    assert tensors["averaged_steps"] is counter
    assert average_decay(0.9999, counter) == pytest.approx(0.9999)


def test_a_background_save_holds_the_values_of_its_moment(tmp_path):
    """Training goes on in the same tensors while they are written."""
    checkpoints = Checkpoints(tmp_path, background=True)
    tensors = {"w": torch.zeros(1 << 20)}
    for step in range(1, 4):
        checkpoints.save(tensors, {}, step=step, score=None)
        tensors["w"] += 1
    checkpoints.close()
    loaded = {"w": torch.empty(1 << 20)}
    checkpoints.load(checkpoints.latest(), loaded)
    assert torch.equal(loaded["w"], torch.full((1 << 20,), 2.0))


def test_the_last_and_the_best_are_kept(tmp_path):
    """Retention of the last k, and of the one with the lowest score."""
    checkpoints = _saved(tmp_path, 1, 2, 3, 4, 5, keep=2, scores={1: 0.9, 2: 0.3, 3: 0.5})
    assert [s.step for s in checkpoints.all()] == [2, 4, 5]


def test_a_step_may_be_saved_again(tmp_path):
    """After a roll-back the same step comes once more: the later one counts."""
    checkpoints = _saved(tmp_path, 2, 4, 2, keep=9)
    assert [s.step for s in checkpoints.all()] == [2, 2, 4]
    checkpoints.drop_after(2)
    checkpoints.save(_tensors(7), {"at": "again"}, step=2, score=None)
    assert checkpoints.load(checkpoints.latest(), _tensors())["at"] == "again"
    assert checkpoints.latest(before=1) is None


def test_a_save_killed_at_any_point_leaves_a_whole_checkpoint(warm, tmp_path):
    """The one before or the new one, never half of one; and the next save goes well."""
    script = Path(__file__).with_name("killed_saves.py")
    done = warm.run([script, tmp_path / "x"])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {after for _, after in found.values()} == {3}
    assert {point: before for point, (before, _) in found.items()} == {
        "while tensors are written": 1,
        "before the manifest": 1,
        "after the checksums": 1,
        "before the rename": 1,
        "after the manifest's rename": 1,  # the file's; the folder's is still to come
        "before the folder is synced": 1,
        "while the old one is removed": 2,
        "after the old one is removed": 2,
    }


def test_a_flipped_byte_is_found_and_named(tmp_path):
    """In any file of the checkpoint, the manifest apart, which is then no manifest."""
    checkpoints = _saved(tmp_path, 1)
    saved = checkpoints.latest()
    files = [f for f in saved.folder.rglob("*") if f.is_file() and f.name != "manifest.json"]
    assert len(files) >= 3
    for file in files:
        raw = bytearray(file.read_bytes())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
        with pytest.raises(RunError, match=f"{file.name}: damaged"):
            checkpoints.load(saved, _tensors())
        raw[len(raw) // 2] ^= 1
        file.write_bytes(raw)
    checkpoints.load(saved, _tensors())
    files[0].unlink()
    with pytest.raises(RunError, match=f"{files[0].name}: missing"):
        checkpoints.load(saved, _tensors())


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"format": 1, "files": {}}', None])
def test_a_damaged_manifest_is_named_and_never_deleted(tmp_path, content):
    """None: a folder in its place. Nothing falls back on an older checkpoint in silence."""
    file = _saved(tmp_path, 1, 2).latest().folder / "manifest.json"
    file.unlink()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(RunError, match=rf"{file}: .*remove {file.parent} and run again"):
        _saved(tmp_path).latest()
    assert sorted(tmp_path.rglob("*")) == before


def test_only_what_has_no_manifest_is_swept(tmp_path):
    """What a save left half done goes; a copy that somebody put aside stays, and is no checkpoint."""
    whole = _saved(tmp_path, 1, 2).latest().folder
    (tmp_path / "step-000000003" / "tensors").mkdir(parents=True)
    (tmp_path / ".partial-step-000000004").mkdir()
    (tmp_path / "step-000000009-mine").mkdir()
    (tmp_path / "step-of-mine").touch()
    assert _saved(tmp_path).latest().folder == whole
    left = {path.name for path in tmp_path.iterdir()}
    assert left == {"step-000000001", "step-000000002", "step-000000009-mine", "step-of-mine"}


def test_a_checkpoint_under_another_name_is_refused(tmp_path):
    """Its manifest says of which step it is."""
    checkpoints = _saved(tmp_path, 1)
    checkpoints.latest().folder.rename(tmp_path / "step-000000002")
    with pytest.raises(RunError, match="is not the manifest of this checkpoint"):
        checkpoints.latest()


def test_a_checkpoint_that_is_a_link_is_neither_read_nor_removed(tmp_path):
    """What it leads to stays whole, whatever is kept, swept or dropped."""
    outside = _saved(tmp_path / "outside", 9).latest().folder
    here = tmp_path / "here"
    here.mkdir()
    (here / "step-000000009").symlink_to(outside)
    (here / ".partial-step-000000001").symlink_to(outside)
    checkpoints = _saved(here, 2, 3, keep=1)
    checkpoints.drop_after(0)
    assert checkpoints.latest() is None
    assert _saved(tmp_path / "outside").latest().step == 9


def test_free_space_is_checked_before_anything_is_written(tmp_path):
    """A checkpoint larger than the disk is refused, with both figures."""
    checkpoints = Checkpoints(tmp_path, background=False)
    huge = {"w": torch.empty(1 << 50, device="meta")}
    with pytest.raises(RunError, match=r"needs \d+ MB, \d+ MB are free"):
        checkpoints.check_space(huge)
    with pytest.raises(RunError, match="are free"):
        checkpoints.save(huge, {}, step=1, score=None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("background", [True, False])
def test_a_write_that_fails_leaves_the_checkpoints_before_it(tmp_path, background):
    """As on a full disk: here the kernel refuses files of more than 4 kB."""
    checkpoints = Checkpoints(tmp_path, background=background)
    checkpoints.save(_tensors(1), {}, step=1, score=None)
    checkpoints.wait()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    old = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
        with pytest.raises(RunError, match=r"checkpoint .*: .*earlier checkpoints are intact"):
            _save(checkpoints, torch.zeros(1 << 20))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, old)
    assert [s.step for s in checkpoints.all()] == [1]
    assert not list(tmp_path.glob(".partial-*"))
    checkpoints.close()


def test_a_folder_that_cannot_be_written_is_an_error_for_a_person(tmp_path):
    """No traceback of the system's."""
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"Not a directory|File exists"):
        _saved(tmp_path / "file" / "checkpoints", 1)
