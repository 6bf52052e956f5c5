"""A run's folder is read again and again: each time only what is new, whatever became of the log."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from engine import RunError, RunFollower
from engine.storage.manifest import sealed

START = {"event": "stage_started", "stage": "base", "verb": "train"}


def step(number: int) -> dict[str, object]:
    return {"event": "step", "stage": "base", "step": number, "loss": 1.0}


def lines(*events: dict[str, object]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


@pytest.fixture
def follower(tmp_path):
    """Follows a folder that is not there yet."""
    return RunFollower(tmp_path / "run")


@pytest.fixture
def log(follower):
    """The log of a run that has started."""
    follower.path.mkdir()
    return follower.path / "events.jsonl"


def polled(follower: RunFollower) -> list[object]:
    return [event.get("step", event["event"]) for event in follower.poll()]


def test_a_folder_that_comes_later(follower):
    """Has no events, is no run, and is one as soon as it has a log."""
    assert (polled(follower), follower.started) == ([], False)
    follower.path.mkdir()
    assert (polled(follower), follower.started) == ([], False)
    (follower.path / "events.jsonl").write_bytes(lines(START))
    assert (polled(follower), follower.started) == (["stage_started"], True)


def bytes_read() -> int:
    """Bytes that this process has read from files so far."""
    told = dict(line.split(": ") for line in Path("/proc/self/io").read_text().splitlines())
    return int(told["rchar"])


def test_only_what_was_added_is_read(follower, log):
    """Of a long log; a line that has no end yet waits for it."""
    log.write_bytes(lines(START, *(step(n) for n in range(1, 20_001))) + b'{"event": "st')
    assert len(polled(follower)) == 20_001
    before = bytes_read()
    assert polled(follower) == []
    with log.open("ab") as file:
        file.write(b'ep", "stage": "base", "step": 20001, "loss": 2}\n')
    assert polled(follower) == [20_001]
    assert bytes_read() - before < log.stat().st_size / 4
    assert follower.history.stages["base"].steps.column("loss").tolist() == [1.0] * 20_000 + [2]


@pytest.mark.parametrize("longer", [False, True])
def test_a_log_that_another_replaces(follower, log, longer):
    """Is read from its beginning, into a new history, whether it is shorter or longer."""
    log.write_bytes(lines(START, step(1), step(2)))
    polled(follower)
    log.unlink()
    log.write_bytes(lines({**START, "stage": "other"}, *([step(7)] * 9 if longer else [])))
    polled(follower)
    assert list(follower.history.stages) == (["other", "base"] if longer else ["other"])
    log.unlink()
    assert polled(follower) == []
    assert follower.history.stages == {}


def test_a_last_line_that_a_resumed_run_cuts_off(follower, log):
    """Leaves the rest as it was read, and is followed by what the run then writes."""
    log.write_bytes(lines(START, step(1)) + b'{"event": "step", "st')
    assert polled(follower) == ["stage_started", 1]
    os.truncate(log, len(lines(START, step(1))))
    history = follower.history
    assert polled(follower) == []
    with log.open("ab") as file:
        file.write(lines({"event": "resumed", "stage": "base", "step": 1}, step(2)))
    assert polled(follower) == [1, 2]
    assert follower.history is history


def test_files_beside_the_log_are_read_when_they_change(follower, log):
    """The spec that is resolved again, a stage's record that comes when it is done; damaged ones are
    empty."""
    log.write_bytes(lines(START))
    spec, record = follower.path / "resolved.yaml", follower.path / "base" / "stage.json"
    spec.write_text("name: [", encoding="utf-8")
    polled(follower)
    assert (follower.history.spec, follower.history.stages["base"].status) == ({}, "running")
    spec.write_text("name: run", encoding="utf-8")
    record.parent.mkdir()
    record.write_text(sealed({"status": "done", "summary": {"steps": 3}}), encoding="utf-8")
    polled(follower)
    assert follower.history.spec == {"name": "run"}
    assert follower.history.stages["base"].status == "done"
    assert follower.history.stages["base"].summary["steps"] == 3


def test_a_log_that_cannot_be_read_for_a_while(follower, log):
    """Is an error each time, and is then read on."""
    log.write_bytes(lines(START))
    polled(follower)
    kept = log.rename(log.with_name("kept"))
    log.mkdir()
    with pytest.raises(RunError, match=r"events\.jsonl: cannot be read: Is a directory"):
        polled(follower)
    log.rmdir()
    kept.rename(log)
    with log.open("ab") as file:
        file.write(lines(step(1)))
    assert polled(follower) == [1]


def test_damaged_events_are_not_yielded(follower, log):
    """They are counted."""
    log.write_bytes(lines(START) + b"[]\n\n" + lines(step(1)))
    assert polled(follower) == ["stage_started", 1]
    assert follower.history.damaged == 1


@pytest.mark.parametrize(("event", "status"), [("failed", "failed"), ("interrupted", "stopped")])
def test_an_event_that_ends_the_run(follower, log, event, status):
    """Ends the stage that was running, until it is started again."""
    log.write_bytes(lines(START, {"event": event, "error": "no space"}))
    polled(follower)
    assert follower.history.stages["base"].status == status
    with log.open("ab") as file:
        file.write(lines(START))
    polled(follower)
    assert follower.history.stages["base"].status == "running"


def test_a_stage_that_is_started_again(follower, log):
    """Has nothing of its earlier attempt as soon as the log tells; a continued one keeps its steps."""
    training = {"event": "training", "stage": "base"}
    log.write_bytes(lines(START, training, step(1), step(2), step(3)))
    polled(follower)
    stage = follower.history.stages["base"]
    for told, left in (
        ({"event": "resumed", "stage": "base", "step": 2}, [1, 2]),
        ({"event": "checkpoint", "stage": "base", "step": 0}, []),
    ):
        with log.open("ab") as file:
            file.write(lines(START, training, told))
        polled(follower)
        assert stage.steps.column("step").tolist() == left
    assert [event["event"] for event in stage.events] == ["stage_started"]
