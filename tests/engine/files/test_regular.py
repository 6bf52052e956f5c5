"""What was planted in a run's folder is neither followed nor filled, and its lock keeps others out."""

from __future__ import annotations

import os

import pytest

from engine.errors import RunError
from engine.event_log import EventLog, SilentDisplay
from engine.files.regular import check_folder, opened_at_end
from engine.storage.run_folder import RunFolder


def _tree(folder) -> dict[str, bytes]:
    return {str(p): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture
def outside(tmp_path):
    """A folder of the user's, with a file in it."""
    made = tmp_path / "outside"
    made.mkdir()
    (made / "manifest.json").write_text("mine")
    (made / "file").write_text("mine")
    return made


@pytest.mark.parametrize(
    ("place", "target"),
    [
        ("base", ""),
        ("base/checkpoints", ""),
        ("base/checkpoints/step-000000009", ""),
        ("base/checkpoints/.partial-step-000000000", ""),
        ("base/final", ""),
        ("base/.partial-final", ""),
        ("base/.old-final", ""),
        ("base/rollouts", ""),
        ("corpus", ""),
        (".partial-corpus", ""),
        ("corpus/shards", ""),
        ("base/stage.json", "file"),
        ("events.jsonl", "file"),
        ("spec.yaml", "file"),
        ("manifest.json", "file"),
        (".lock", "file"),
        ("base/wandb/engine-run", "file"),
    ],
)
def test_a_link_out_of_a_run_is_refused(place, target, tmp_path, outside):
    """Before anything is written or removed."""
    link = tmp_path / "run" / place
    link.parent.mkdir(parents=True)
    link.symlink_to(outside / target)
    before = _tree(outside)
    with (
        pytest.raises(RunError, match=r"is a link.*remove it"),
        RunFolder(tmp_path / "run").locked(),
    ):
        raise AssertionError("it is in")
    assert _tree(outside) == before


@pytest.mark.parametrize("place", ["base", "base/checkpoints", "base/final", "events.jsonl"])
def test_a_stage_that_begins_anew_follows_no_link(place, tiny_spec, run_here, tmp_path, outside):
    """What a link leads to is not removed with the stage."""
    link = tmp_path / "runs" / "tiny" / place
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(outside)
    before = _tree(outside)
    with pytest.raises(RunError, match=r"is a link.*remove it"):
        run_here(tiny_spec, rerun=("base",))
    assert _tree(outside) == before


def test_links_within_their_own_folder_are_a_trackers_own(tmp_path):
    """They lead down, so that nothing is reached that is not reached without them."""
    (tmp_path / "wandb" / "offline-run").mkdir(parents=True)
    (tmp_path / "wandb" / "latest-run").symlink_to("offline-run")
    (tmp_path / "wandb" / "itself").symlink_to("itself")
    logs = tmp_path / "base" / "wandb" / "offline-run" / "logs"
    logs.mkdir(parents=True)
    (logs / "debug-core.log").symlink_to(tmp_path.parent / "core.log")  # as wandb has it
    check_folder(tmp_path)
    (logs / "up").symlink_to(tmp_path.parent)
    with pytest.raises(RunError, match="up: is a link out of its folder"):
        check_folder(tmp_path)
    (logs / "up").unlink()
    (tmp_path / "wandb" / "up").symlink_to("../..")
    with pytest.raises(RunError, match="up: is a link out of its folder"):
        check_folder(tmp_path)


@pytest.mark.timeout(20)
@pytest.mark.parametrize("place", [".lock", "events.jsonl", "base/stage.json", "base/pipe"])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, place):
    """A name that nobody writes to or reads from would hold the run for ever."""
    pipe = tmp_path / "run" / place
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    told = r"regular file|neither a file nor a folder"
    with pytest.raises(RunError, match=told), RunFolder(tmp_path / "run").locked():
        raise AssertionError("it is in")
    with pytest.raises(RunError, match="is not a regular file"):
        EventLog(pipe, SilentDisplay())


@pytest.mark.parametrize("place", [".lock", "events.jsonl"])
def test_a_file_with_another_name_is_not_written_to(tmp_path, outside, place):
    """A hard link: what is written at its end would stand in the other file, too."""
    (tmp_path / "run").mkdir()
    os.link(outside / "file", tmp_path / "run" / place)
    with pytest.raises(RunError, match="has other hard links"):
        opened_at_end(tmp_path / "run" / place)
    assert (outside / "file").read_text() == "mine"


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_a_lock_file_that_goes_lets_nobody_in(tmp_path, how):
    """The folder itself is locked."""
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        (folder.path / ".lock").unlink()
        if how == "replaced":
            (folder.path / ".lock").write_text("1")
        with pytest.raises(RunError, match="another run is using this folder"), folder.locked():
            raise AssertionError("both are in")
    with folder.locked():
        pass


@pytest.mark.parametrize("text", ["\x1b[2Jhacked", "x" * 10_000, "", "²"])
def test_what_a_lock_says_is_shown_only_if_it_is_a_process(tmp_path, text):
    """A stranger's words do not reach the terminal."""
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        (folder.path / ".lock").write_text(text, encoding="utf-8")
        with pytest.raises(RunError) as caught, folder.locked():
            raise AssertionError("both are in")
    assert str(caught.value).startswith(f"{folder.path}: another run is using this folder; wait")
