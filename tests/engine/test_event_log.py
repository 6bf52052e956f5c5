"""The log is JSON lines that a kill cannot spoil; what a person sees fits a terminal."""

from __future__ import annotations

import io
import json

import pytest
import structlog
from rich.console import Console

from engine.event_log import (
    EventLog,
    JsonDisplay,
    RichDisplay,
    SilentDisplay,
)


def _lines(path):
    """Every line as strict JSON has it: no NaN, no Infinity."""

    def refuse(constant):
        raise AssertionError(f"{constant} is no JSON")

    text = path.read_text(encoding="utf-8")
    assert text.endswith("\n")
    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


@pytest.fixture
def path(tmp_path):
    """Where the log goes."""
    return tmp_path / "events.jsonl"


def _log(path, **event):
    log = EventLog(path, SilentDisplay())
    log.emit(**event)
    log.close()


def test_every_event_is_a_line(path):
    """With its name and time; opened again, the log goes on."""
    _log(path, event="a", stage="base", step=1)
    _log(path, event="b", text='"\n\u2028\x85ä\ud800')
    first, second = _lines(path)
    assert (first["event"], first["stage"], first["step"]) == ("a", "base", 1)
    assert first["time"] > 1.7e9
    assert second["text"] == '"\n\u2028\x85ä\ud800'


@pytest.mark.parametrize("cut", [1, 5, 20])
def test_a_line_that_a_kill_cut_off_is_dropped(path, cut):
    """Wherever it was cut; the lines before it stay, and the next one is a line of its own."""
    _log(path, event="whole")
    whole = path.read_bytes()
    _log(path, event="cut", text="ä" * 20)
    path.write_bytes(path.read_bytes()[: len(whole) + cut])
    _log(path, event="next")
    assert [event["event"] for event in _lines(path)] == ["whole", "next"]
    assert path.read_bytes().startswith(whole)


@pytest.mark.parametrize("text", [b"", b'{"event": "cu'])
def test_a_log_without_a_whole_line_begins_anew(path, text):
    """Killed at once, it holds nothing yet."""
    path.write_bytes(text)
    _log(path, event="first")
    assert [event["event"] for event in _lines(path)] == ["first"]


def test_numbers_that_are_not_finite_are_null(path, capsys):
    """In the file and on stdout: JSON has no NaN."""
    nan, infinite = float("nan"), float("inf")
    log = EventLog(path, JsonDisplay())
    log.emit("step", loss=nan, grad_norm=infinite, lr=1e-3, parts={"a": [-infinite, 1.0]})
    log.close()
    (event,) = _lines(path)
    assert (event["loss"], event["grad_norm"], event["lr"]) == (None, None, 1e-3)
    assert event["parts"] == {"a": [None, 1.0]}
    assert json.loads(capsys.readouterr().out) == event


def test_other_ranks_keep_their_warnings_for_rank_0(path):
    """All else that they say, rank 0 says as well."""
    other = EventLog(None, SilentDisplay())
    other.emit("step", step=1)
    other.warn("odd", stage="base")
    first = EventLog(path, SilentDisplay())
    first.adopt(other.pending(), rank=3)
    first.close()
    assert other.pending() == []
    (event,) = _lines(path)
    assert (event["event"], event["message"], event["rank"]) == ("warning", "odd", 3)


def test_whoever_else_logs_through_structlog_is_left_alone(path):
    """The engine configures nothing for others."""
    _log(path, event="a")
    assert not structlog.is_configured()


# ---------------------------------------------------------------------------- what a person sees


def _shown(*events, terminal=False, width=80):
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=width, highlight=False)
    display = RichDisplay(console)
    for event in events:
        display.event(event)
    display.close()
    return stream.getvalue()


SCORE = {
    "event": "score", "stage": "base", "model": "base", "step": 400, "evaluator": "perplexity",
    "metric": "bits_per_byte",
    "value": 1.23456, "stderr": 0.0123, "n": 10,
}  # fmt: skip


READ = {"dropped": {"nul": 2, "too-long": 1}, "bad_rows": ["a.jsonl:8 nul"], "held_out": 0}


def test_events_are_told_in_words():
    """Those that a person wants to know of; steps only move the bar."""
    shown = _shown(
        {"event": "stage_started", "stage": "base", "verb": "train"},
        {"event": "source", "stage": "base", "message": "a.jsonl: texts → text records"},
        READ | {"event": "examples", "records": 1200, "rows": 99, "held_out": 12},
        READ | {"event": "documents", "source": "files", "read": 9, "documents": 9},
        {"event": "resumed", "stage": "base", "step": 40},
        {"event": "step", "stage": "base", "step": 41, "loss": 3.2},
        SCORE,
        SCORE | {"step": None, "stderr": None},
        SCORE | {"interval": [1.21, 1.27]},
        {"event": "warning", "message": "disk is full", "rank": 1},
        {"event": "rolled_back", "stage": "base", "step": 20, "reason": "loss is nan"},
        {"event": "ended_early", "stage": "base", "step": 60, "reason": "no better"},
        {"event": "stopped", "stage": "base", "step": 50, "reason": "signal"},
        {"event": "stage_skipped", "stage": "corpus"},
        {"event": "stage_skipped", "stage": "a" * 40, "message": f"made by [b], while {'c' * 40}"},
    )
    assert shown.splitlines() == [
        "base: train",
        "  a.jsonl: texts → text records",
        "  1,200 records → 99 rows, 12 held out; dropped: 2 nul, 1 too-long (the first: ",
        "a.jsonl:8 nul)",
        "  files: 9 records → 9 documents; dropped: 2 nul, 1 too-long (the first: ",
        "a.jsonl:8 nul)",
        "  resumed from step 40",
        "  perplexity/bits_per_byte 1.235 ± 0.024 (base at step 400; 95 %)",
        "  perplexity/bits_per_byte 1.235 (base)",
        "  perplexity/bits_per_byte 1.235 [1.210, 1.270] (base at step 400; 95 %)",
        "  warning (rank 1): disk is full",
        "  rolled back to step 20: loss is nan",
        "  ended early at step 60: no better",
        "base: stopped at step 50: signal",
        "corpus: already done",
        f"{'a' * 40}: already done, made by [b], while {'c' * 40}",
    ]


def test_words_of_others_are_shown_as_they_are():
    """Brackets in a path or a message are no markup, and no reason to fail."""
    message = "[red]notes[/b] [x].txt: [/]"
    shown = _shown({"event": "warning", "message": message}, SCORE | {"metric": "[/]f1"})
    assert message in shown
    assert "[/]f1" in shown


def test_lines_fit_the_terminal():
    """Long ones are broken."""
    shown = _shown({"event": "warning", "message": "word " * 60}, SCORE)
    assert max(map(len, shown.splitlines())) <= 80


def test_bars_are_for_terminals():
    """Into a file or a pipe goes no bar and no control character, and no empty line instead."""
    for terminal in (True, False):
        stream = io.StringIO()
        console = Console(file=stream, force_terminal=terminal, width=80)
        display = RichDisplay(console)
        for done in range(4):
            display.progress("base", done, 3, note="loss 3.21 · 4.8k tokens/s")
        display.event({"event": "stage_skipped", "stage": "next"})
        display.close()
        shown = stream.getvalue()
        if terminal:
            assert "base" in shown
            assert "loss 3.21" in shown
            assert "\x1b[?25h" in shown.rpartition("\x1b[?25l")[2]  # the cursor is back
        else:
            assert shown == "next: already done\n"


def test_a_bar_that_is_interrupted_is_closed():
    """So that the cursor is there again."""
    stream = io.StringIO()
    display = RichDisplay(Console(file=stream, force_terminal=True, width=80))
    display.progress("base", 1, 3)
    display.close()
    display.close()
    assert "\x1b[?25h" in stream.getvalue().rpartition("\x1b[?25l")[2]
