"""A signal ends a run where it can go on; Ctrl-C after one ends it at once."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys

import pytest
from engine_parallel.replicated import Replicated

from engine.cli.summary import print_summary
from engine.processes.process import Signals
from engine.spec.loading import load_spec
from engine.storage.run_folder import RunFolder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_training_saves_first(tiny_spec, run_here, monkeypatch, summary, number):
    """The run is stopped, not done; the same command goes on to the same weights."""
    whole = run_here(tiny_spec, runs="whole").weights()
    forward_backward = Replicated.forward_backward
    calls = iter(range(100))

    def interrupted(self, *arguments):
        if next(calls) == 2:
            signal.raise_signal(number)
        return forward_backward(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(Replicated, "forward_backward", interrupted)
        run = run_here(tiny_spec)
    assert run.status == 1
    assert [(e["step"], e["reason"]) for e in run.events("stopped")] == [(3, "signal")]
    assert run.events("checkpoint")[-1]["step"] == 3
    assert json.loads((run.folder / "base" / "stage.json").read_text())["status"] == "begun"
    assert summary(run) == "tiny is not finished: run the same command to continue."
    run = run_here(tiny_spec)
    assert run.status == 0
    assert [event["step"] for event in run.events("resumed")] == [3]
    assert run.steps("step") == [1, 2, 3, 4, 5, 6]
    weights = run.weights()
    assert all(weights[name].equal(whole[name]) for name in whole)


INTERRUPTER = {
    "engine_interrupter/plugin.py": """
from engine import Component, hookimpl


@hookimpl
def engine_processors():
    place = "engine_interrupter.parts"
    return [Component("interrupt", f"{place}:Interrupt", f"{place}:build", "Once, a signal.")]
""",
    "engine_interrupter/parts.py": """
import signal

from engine import Config, each

signals = [signal.SIGINT, signal.SIGTERM]


class Interrupt(Config):
    \"\"\"Once, a signal.\"\"\"


def interrupted(document):
    if signals:
        signal.raise_signal(signals.pop())
    return document


def build(config, context):
    return each(interrupted)
""",
}


@pytest.fixture
def summary(tiny_spec, write_spec, capsys):
    """What is said at the end of a run of the tiny spec that was broken off."""

    def said(run) -> str:
        print_summary(RunFolder(run.folder), load_spec(write_spec(tiny_spec)).spec, "stopped")
        return capsys.readouterr().out.strip()

    return said


def test_a_signal_outside_training_ends_the_run(tiny_spec, run_here, install_here, summary):
    """Between two writes: nothing half made passes for whole, and the next run begins there, as is
    said."""
    install_here(INTERRUPTER)
    tiny_spec["plugins"] = ["interrupter"]
    tiny_spec["stages"]["corpus"]["prepare"]["processors"] = ["interrupt"]
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in a shell's background
    before = signal.getsignal(signal.SIGTERM)
    for number in (1, 2):
        run = run_here(tiny_spec)
        assert run.status == 1
        assert len(run.events("interrupted")) == number
        assert not (run.folder / "corpus" / "manifest.json").exists()
        assert summary(run) == (
            "tiny is not finished: run the same command; 'corpus' goes on from the parts that are done."
        )
    assert run_here(tiny_spec).status == 0
    assert signal.getsignal(signal.SIGTERM) == before


def test_ctrl_c_after_a_signal_ends_the_process_at_once():
    """With status 1, wherever it is; others are only counted, and afterwards all is as before."""
    before = signal.getsignal(signal.SIGINT)
    signals = Signals()
    with signals.caught():
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # the launcher's, after the scheduler's
        assert signals.count == 3
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGINT)
            os._exit(0)  # not reached
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 1
    assert signal.getsignal(signal.SIGINT) == before


def test_in_a_terminal(tiny_spec, write_spec, copied, tmp_path):
    """There is a bar; SIGTERM ends the run with status 1 and the words that say how to go on."""
    tiny_spec["stages"]["base"]["train"]["budget"] = "100k steps"
    controller, terminal = pty.openpty()
    arguments = ["run", str(write_spec(tiny_spec)), "--runs", str(copied.parent)]
    started = subprocess.Popen(
        [sys.executable, "-m", "engine.cli", *arguments],
        stdout=terminal,
        stderr=terminal,
        env={**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "80", "TERM": "xterm"},
    )
    os.close(terminal)
    shown = b""
    try:
        while b"tok/s" not in shown:  # as the bar says beside itself
            shown += os.read(controller, 65536)
        started.terminate()
        while chunk := _read(controller):
            shown += chunk
        assert started.wait(60) == 1
    finally:
        started.kill()
        started.wait()
        os.close(controller)
    text = re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", shown.decode())
    assert re.search(r"base: train\s+resumed from step 6\s+", text)
    assert re.search(r"base: stopped at step [0-9]+: signal\s", text)
    assert text.endswith("tiny is not finished: run the same command to continue.\r\n")
    assert "Traceback" not in text


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65536)
    except OSError:  # the other end is closed
        return b""
