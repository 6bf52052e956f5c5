"""Whether a run is alive, and how it ended, by its folder alone."""

from __future__ import annotations

import os
import re
import time

import pytest
from engine_report.watch import watched as module
from engine_report.watch.screen import state
from engine_report.watch.watched import Watched


@pytest.fixture
def watched(written) -> Watched:
    """Watches the folder."""
    return Watched(written.folder)


def looked(watched) -> str:
    """The state after a look, in a word."""
    list(watched.look())
    return state(watched)[0]


def test_a_life(written, watched):
    """Waiting, running, stopped, running again, failed, running again, done."""
    assert looked(watched) == "waiting"
    written.start()
    written.step(1)
    assert looked(watched) == "running"
    written.add("stopped", step=1, reason="signal")
    assert looked(watched) == "stopped"
    written.add("checkpoint", step=1)
    assert looked(watched) == "stopped"
    written.add("stage_skipped", stage="corpus")
    assert looked(watched) == "idle"
    written.add("stage_started", verb="train")
    assert looked(watched) == "running"
    written.add("failed", stage=None, error="no space left")
    assert (looked(watched), state(watched)[1]) == ("failed", "failed: no space left")
    written.add("stage_started", verb="train")
    assert looked(watched) == "running"
    written.add("stage_finished", seconds=3.0)
    assert looked(watched) == "done"


def test_a_run_that_was_killed_long_ago(written, watched):
    """Is quiet at the first look, for as long as its log says."""
    written.start()
    written.log.write_text("")
    written.add("stage_started", verb="train", ago=3600)
    assert (looked(watched), watched.quiet_seconds // 60) == ("quiet", 60)
    written.step(1)
    assert looked(watched) == "running"
    assert watched.quiet_seconds < 5


def test_a_clock_that_is_ahead(written, watched):
    """On another machine: the run is not quiet before this machine's clock says so."""
    written.start()
    written.step(1, ago=-3600)
    assert looked(watched) == "running"
    assert 0 <= watched.quiet_seconds < 5


def test_long_steps_are_no_silence(written, watched):
    """Of a run that takes minutes for each."""
    written.start()
    for number in (1, 2, 3):
        written.step(number, ago=200 - 50 * number)
    written.log.write_text(written.log.read_text())
    assert looked(watched) == "running"
    assert watched.quiet_seconds >= 49
    for number in (4, 5):
        written.step(number, ago=500)
    assert looked(Watched(written.folder)) == "quiet"


def test_files_that_change_are_a_sign_of_life(written, monkeypatch):
    """Of a stage that logs nothing for long, such as one that prepares documents."""
    monkeypatch.setattr(module, "_FEEL", 0.0)
    written.start()
    written.log.write_text("")
    written.add("stage_started", verb="train", ago=3600)
    part = written.folder / "base" / "shards" / "part"
    part.parent.mkdir(parents=True)
    part.write_bytes(b"1")
    for path in (part, part.parent, part.parent.parent):
        os.utime(path, (time.time() - 3000,) * 2)
    watched = Watched(written.folder)
    assert (looked(watched), watched.quiet_seconds // 60) == ("quiet", 50)
    part.write_bytes(b"2")
    assert looked(watched) == "running"


def test_a_timeout_makes_silence_come_sooner(written):
    """But no longer than the user waits."""
    written.start()
    written.log.write_text("")
    written.add("stage_started", verb="train", ago=5)
    assert looked(Watched(written.folder)) == "running"
    assert looked(Watched(written.folder, timeout=3)) == "quiet"


def test_a_log_that_cannot_be_read_is_read_later(written, watched):
    """As on a shared disk that is away for a moment."""
    written.start()
    assert looked(watched) == "running"
    kept = written.log.rename(written.folder / "kept")
    written.log.mkdir()
    assert looked(watched) == "trouble"
    assert state(watched)[1].endswith("cannot be read: Is a directory; trying again")
    written.log.rmdir()
    kept.rename(written.log)
    assert looked(watched) == "running"


def test_what_was_noted_of_a_replaced_log_is_forgotten(written, watched):
    """Its steps, its speed and its warnings."""
    written.start()
    written.step(1)
    written.add("warning", message="slow")
    looked(watched)
    assert (watched.steps, watched.pace, watched.warnings) != ({}, {}, {})
    written.log.unlink()
    looked(watched)
    assert (watched.steps, watched.pace, watched.warnings) == ({}, {}, {})


def test_equal_warnings_are_counted(written, watched):
    """And only the last different ones are kept."""
    written.start()
    for message in ("a", "b", "c", "a", "d"):
        written.add("warning", message=message)
    looked(watched)
    assert list(watched.warnings.items()) == [("c", 1), ("a", 2), ("d", 1)]


def test_a_stage_that_the_spec_no_longer_has(written, watched):
    """Neither runs nor keeps the run from its end."""
    written.start()
    written.add("stage_started", stage="old", verb="train")
    written.add("stage_finished", seconds=1.0)
    assert looked(watched) == "done"
    assert watched.planned == ["corpus", "base"]


@pytest.mark.parametrize("log", [None, ""])
def test_a_run_without_any_event(written, watched, log):
    """Has been quiet since its folder was made, not for decades."""
    written.folder.mkdir()
    (written.folder / "resolved.yaml").write_text("stages: {}")
    if log is not None:
        written.log.write_text(log)
    assert looked(watched) == "idle"
    assert re.fullmatch(r"no event yet; the folder was changed \d s ago", state(watched)[1])


def test_a_run_that_is_moved_away(written, watched):
    """Meanwhile: it is waited for again."""
    written.start()
    assert looked(watched) == "running"
    written.folder.rename(written.folder.with_name("run2"))
    assert looked(watched) == "waiting"
    assert state(watched)[1].startswith(
        f"waiting: there is no folder {written.folder} yet; did you"
    )
    written.folder.with_name("run2").rename(written.folder)
    assert looked(watched) == "running"
