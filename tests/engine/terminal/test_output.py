"""Output that cannot be written or shown: told in a line, with a status, and nothing is lost."""

from __future__ import annotations

import io
import os
import subprocess
import sys

import pytest
import yaml

from engine.errors import RunError
from engine.event_log import EventLog, JsonDisplay, SilentDisplay
from engine.terminal import output as terminal


def _engine(*arguments, **options) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "engine.cli", *map(str, arguments)]
    options = {"stderr": subprocess.PIPE, "text": True, "timeout": 120, "check": False} | options
    return subprocess.run(command, **options)


@pytest.mark.parametrize("unbuffered", ["", "1"], ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("arguments", [["plugins"], ["--help"], ["schema"]], ids=" ".join)
def test_a_full_device_is_told(arguments, unbuffered, monkeypatch):
    """In one line on standard error, as of any tool, with status 1."""
    monkeypatch.setenv("PYTHONUNBUFFERED", unbuffered)
    with open("/dev/full", "w") as full:
        done = _engine(*arguments, stdout=full)
    told = "error: standard output: cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (1, told)


def test_two_full_devices_leave_the_status():
    """Nobody can be told then."""
    with open("/dev/full", "w") as full:
        assert _engine("plugins", stdout=full, stderr=full).returncode == 1


def test_a_closed_pipe_ends_a_command():
    """Without a word of Python's, as `head` has what it wanted."""
    reading, writing = os.pipe()
    os.close(reading)
    try:
        done = _engine("schema", stdout=writing)
    finally:
        os.close(writing)
    assert done.returncode == 1
    assert done.stderr.count("\n") <= 1
    assert "Exception" not in done.stderr


def test_a_terminal_that_knows_only_ascii_is_shown_all(monkeypatch):
    """Signs that it lacks are spelled out, and halves of surrogate pairs, of which names can be."""
    shown = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr("sys.stdout", shown)
    terminal.prepare()
    print("2 ± 1 → é \udc80")
    assert terminal.finish() is None
    assert shown.buffer.getvalue() == b"2 +/- 1 -> \\xe9 \\udc80\n"


def test_a_run_whose_events_nobody_reads_ends_in_a_line(monkeypatch):
    """It can go on later: the events are in its folder as well."""
    with open("/dev/full", "w") as full:
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(RunError, match=r"standard output: .*No space left"):
            JsonDisplay().event({"event": "step"})
        monkeypatch.undo()
        with pytest.raises(OSError, match="No space"):
            full.close()


def test_a_run_goes_on_without_the_terminal_that_shows_it(finished_run, tmp_path):
    """What it would say is in its log."""
    spec = yaml.safe_load((finished_run / "spec.yaml").read_text())
    del spec["stages"]["base"]
    (tmp_path / "spec.yaml").write_text(yaml.safe_dump(spec))
    with open("/dev/full", "w") as full:
        again = ("run", tmp_path / "spec.yaml", "--runs", tmp_path)
        done = _engine(*again, stdout=subprocess.PIPE, stderr=full)
    events = (tmp_path / "tiny" / "events.jsonl").read_text()
    assert "stage_finished" in events, done.stdout


def test_a_disk_that_is_full_is_told(engine, finished_run, tmp_path):
    """Whatever file is the first that finds no room, with the folder and the way out."""
    spec = finished_run.parent / "tiny.yaml"
    limited = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), -1)); "
        "from engine.cli import main; main(sys.argv[2:])"
    )
    for size in (600,):
        command = [sys.executable, "-c", limited, size, "run", spec, "--runs", tmp_path / str(size)]
        done = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 1
        assert "Traceback" not in done.stderr
        (told,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert str(tmp_path) in told
        assert "File too large" in told


def test_a_log_that_cannot_be_written_ends_the_run_in_a_line(tmp_path, monkeypatch):
    """Half a line at most is left, which the next start drops."""
    log = EventLog(tmp_path / "events.jsonl", SilentDisplay())
    log.emit("first")

    class _Full:
        def write(self, rest):
            raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(log, "_file", _Full())
        with pytest.raises(RunError, match=r"events\.jsonl: cannot be written: No space left"):
            log.emit("second")
    log.close()
