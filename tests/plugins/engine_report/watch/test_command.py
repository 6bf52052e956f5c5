"""``engine watch`` beside real runs: before they start, while they train, when they are killed, to
their end."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
import time

import pytest
from support import runs

OPTIONS = ("--every", "0.1")


@pytest.fixture
def watching(tmp_path):
    """Starts ``engine watch`` in a process of its own, on a terminal or into a pipe."""
    started = []

    def start(folder, *options, **output):
        started.append(
            subprocess.Popen(
                [sys.executable, "-m", "engine.cli", "watch", str(folder), *OPTIONS, *options],
                env={**os.environ, "TERM": "xterm", "COLUMNS": "80", "LINES": "40"},
                text=not output.get("stdout"),
                **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **output},
            )
        )
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def terminal():
    """A pseudo-terminal, and a function that reads from it until a text is shown or it is closed."""
    controller, inner = pty.openpty()
    shown = []

    def until(text=None):
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = "".join(shown)
            if text is not None and re.search(text, found):
                shown.clear()
                return found
            try:
                chunk = os.read(controller, 65536)
            except OSError:  # the other end is closed
                chunk = b""
            if not chunk:
                assert text is None, (text, found)
                return found
            shown.append(re.sub(r"\x1b\[[?0-9;]*[A-Za-z]", "", chunk.decode("utf-8", "ignore")))
        raise AssertionError((text, "".join(shown)))

    yield inner, until
    os.close(controller)


@pytest.fixture
def started(tiny_spec, write_spec, prepared, warm, tmp_path):
    """Starts a run that would take an hour; with a budget, one that goes on to its end."""
    programs = []

    def start(budget="100k steps"):
        train = tiny_spec["stages"]["base"]["train"] | {"budget": budget}
        train["evaluate"] = [{"type": "perplexity", "every": "5 steps", "limit": 2}]
        train["checkpoint"] = {"every": "5 steps"}
        tiny_spec["stages"]["base"]["train"] = train
        runs_folder = tmp_path / "runs"
        if not runs_folder.exists():
            prepared(runs_folder)
        arguments = ["-m", "engine.cli", "run", write_spec(tiny_spec), "--runs", runs_folder]
        programs.append(warm.start(arguments))
        return programs[-1]

    yield start
    for program in programs:
        program.kill()
        program.communicate()


def test_a_run_on_a_terminal(started, watching, terminal, tmp_path):
    """Is waited for, drawn while it trains, told to be silent once it is killed, and followed when it
    goes on to its end, whose status is 0."""
    folder = tmp_path / "runs" / "tiny"
    inner, until = terminal
    watch = watching(folder, stdout=inner, stderr=inner)
    os.close(inner)
    until("waiting: ")
    run = started()
    shown = until(r"perplexity/bits per byte +[0-9.]+ +\[")
    for part in (
        r"base +train +running",
        r"step \d+ of 100,000",
        "[\u2801-\u28ff]{3}",
        "grad norm",
    ):
        assert re.search(part, shown), part
    run.kill()
    watch.send_signal(signal.SIGINT)  # as Ctrl-C
    assert "Traceback" not in until()
    assert watch.wait(60) == 1
    told = watching(folder, "--timeout", "1").communicate(timeout=60)[0]
    assert "no sign of life for " in told
    last = runs.steps(folder)[-1]
    again = watching(folder)
    run = started(f"{last + 10} steps")
    told, err = again.communicate(timeout=120)
    assert (again.returncode, err, run.wait(60)) == (0, "", 0), told
    for part in ("resumed from step ", "base: done", f"step {last + 10:,} of {last + 10:,} · 100%"):
        assert part in told
    assert told.endswith("\ndone\n")


def test_the_end_of_a_run(command, copied):
    """Its stages, its last step and its outcome, by the status; as JSON, its events unchanged."""
    out, err = command("watch", copied)
    assert out.splitlines()[:2] == ["corpus: prepare, done", "base: train, done"]
    assert re.fullmatch(
        r"base: step 6 of 6 · 100% · loss [0-9.]+ · [0-9,]+ tokens/s\n",
        out[out.index("base: step") : -5],
    )
    assert (out[-5:], err) == ("done\n", "")
    out, err = command("watch", copied, "--json")
    assert (list(map(json.loads, out.splitlines())), err) == (runs.events(copied), "done\n")
    with (copied / "events.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"event": "stage_started", "stage": "base", "verb": "train"}\n')
        log.write('{"event": "failed", "error": "no [space]\\u001b[2J"}\n')
    out, _ = command("watch", copied, status=1)
    assert out.endswith("failed: no [space]\\x1b[2J\n")


def test_events_are_told_as_they_come(watching, written):
    """In lines, with the texts as they are; steps only from time to time."""
    written.start()
    watch = watching(written.folder)
    assert watch.stdout.readline() == "corpus: prepare, done\n"
    assert watch.stdout.readline() == "base: train, running\n"
    assert watch.stdout.readline().startswith("running, the last sign of life ")
    for number in (1, 2, 3):
        written.step(number)
    written.add("warning", message="[red]odd[/] \x1b]0;x\x07")
    written.add("warning")
    written.add("stage_finished", seconds=1.0)
    lines = watch.communicate(timeout=60)[0].splitlines()
    assert lines == [
        "base: step 1 of 40 · 2% · loss 5 · 4,800 tokens/s",
        "  warning: [red]odd[/] \\x1b]0;x\\x07",
        "base: step 3 of 40 · 8% · loss 1.667 · 4,800 tokens/s",
        "base: done",
        "done",
    ]


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("base", "base: is a stage's folder; name its run: "),
        ("base/stage.json", "stage.json: is not a folder; name a run's, such as runs/quickstart"),
        ("..", "..: is a folder of runs; name one, such as "),
    ],
)
def test_what_will_never_be_a_run(command, copied, place, why):
    """Is refused, with what to name."""
    out, err = command("watch", copied / place, status=2)
    assert (out, why in err, err.count("\n")) == ("", True, 1)


def test_a_folder_that_never_comes(command, tmp_path):
    """Is given up after the timeout, with the reason; a run with a name like it is told."""
    options = ("--timeout", "0.3", "--every", "0.1")
    for name in ("", "quickstart"):
        (tmp_path / name).mkdir(exist_ok=True)
        folder = tmp_path / "quikstart"
        out, err = command("watch", folder, *options, status=1)
        near = f"; did you mean '{tmp_path}/quickstart'?" if name else ""
        assert out == f"waiting: there is no folder {folder} yet{near}\n"
        assert err == "looked no longer: no sign of life for 0.3 s (--timeout)\n"
        (tmp_path / "quickstart").mkdir(exist_ok=True)
        (tmp_path / "quickstart" / "resolved.yaml").write_text("")
    (tmp_path / "empty").mkdir()
    out, _ = command("watch", tmp_path / "empty", *options, status=1)
    assert out == f"waiting: {tmp_path}/empty has no run yet\n"


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e308, 10**400, "x", None, [1]])
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_times_that_are_none(command, written, bad, options):
    """In any event: neither lines nor JSON end with an error, and what JSON does not have is null."""
    written.start()
    for number in (1, 2, 3):
        written.step(number, time=bad, loss=bad)
    written.add("stage_finished", time=bad, seconds=bad)
    out, err = command("watch", written.folder, *options)
    assert err == ("done\n" if options else "")
    assert out.endswith("done\n") or options

    def refuse(name):
        raise AssertionError(name)

    for line in out.splitlines() if options else ():
        json.loads(line, parse_constant=refuse)


def test_a_run_that_diverged_and_ended_early(command, written):
    """Is told to have at the first look, with a score that is null."""
    written.start()
    for number in range(1, 6):
        written.step(number, loss=None if number > 3 else 1.0)
    written.add("score", step=5, model="base", metric="loss", value=None, stderr=None, n=3)
    written.add("ended_early", step=5, reason="no [better]")
    written.add("stage_finished", seconds=1.0)
    out, _ = command("watch", written.folder)
    assert out.splitlines()[1:] == [
        "base: train, done",
        "  ended early at step 5: no [better]",
        "base: step 5 of 40 · 12% · loss is not finite since step 4 · 4,800 tokens/s",
        "done",
    ]


def test_a_null_score_is_told_as_it_comes(watching, written):
    """As a line of its own."""
    written.start()
    watch = watching(written.folder)
    told = [watch.stdout.readline() for _ in range(3)]
    assert told[-1].startswith("running, ")
    with written.log.open("a", encoding="utf-8") as log:
        line = (
            '{"event": "score", "stage": "base", "model": "base", "metric": "loss", "value": null}'
        )
        log.write(line[:30])
        log.flush()
        time.sleep(0.3)
        log.write(line[30:] + "\n")
    written.add("stage_finished", seconds=1.0)
    out, err = watch.communicate(timeout=60)
    assert (out.splitlines(), err) == (["  loss not finite (base)", "base: done", "done"], "")
