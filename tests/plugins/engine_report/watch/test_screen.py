"""The view of a run: everything that a person asks, in 80 columns, and nothing that a text commands."""

from __future__ import annotations

import io
import re

import pytest
from engine_report.watch.screen import Screen
from engine_report.watch.watched import Watched

from engine import Terminal


@pytest.fixture
def shown(written):
    """A function that gives the lines of the view."""

    def show(height=40, width=80, encoding="utf-8"):
        out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="engine-plain")
        watched = Watched(written.folder)
        list(watched.look())
        terminal = Terminal(file=out, width=width, height=height, force_terminal=True)
        terminal.print(Screen(watched))
        out.flush()
        raw = out.buffer.getvalue().decode(encoding)
        return re.sub(r"\x1b\[[0-9;]*m", "", raw).splitlines()

    return show


@pytest.fixture
def trained(written):
    """A run after 20 of 40 steps, with scores and a warning."""
    written.start({**written_stages(), "scores": {"evaluate": {}}})
    for number in range(1, 21):
        written.step(number, ago=20 - number, utilisation=0.41234, reward=0.5)
    score = {"model": "base", "evaluator": "perplexity", "n": 9, "value": 24.3121, "step": 20}
    written.add("score", **score, metric="perplexity", stderr=0.2)
    written.add("score", **score, metric="bits_per_byte", stderr=None, interval=[24, 25])
    written.add("warning", message="the loss is [bold]high[/]")
    return written


def written_stages():
    return {"corpus": {"prepare": {}}, "base": {"train": {"budget": "40 steps", "batch": {}}}}


def test_what_a_person_asks(trained, shown):
    """Stages, progress with the time left, figures with units, the curve, scores, warnings."""
    lines = shown()
    text = "\n".join(lines)
    for part in (
        r"run  running, the last sign of life \d s ago",
        r"corpus +prepare +done +12 s",
        r"base +train +running +\d+ s",
        r"scores +waiting",
        r"base .+ step 20 of 40 · 50% · (19|20|21) s left",
        r"loss +0.25 +lr +0.001 +grad norm +0.8",
        r"tokens per second +4,80[01] +utilisation +41.2% +memory +1.00 GB",
        r"reward +0.5",
        r" 5  [\u2800-\u28ff]{70}",
        r" 0.25  [\u2800-\u28ff]{70}",
        r" {10}1 +step 20",
        r"perplexity +24.31 +\[23.92, 24.7\] +base, step 20",
        r"perplexity/bits per byte +24.31 +\[24, 25\] +base, step 20",
        r"warning: the loss is \[bold\]high\[/\]",
    ):
        assert re.search(part, text), (part, text)
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("height", [10, 18, 24, 60])
def test_the_curve_takes_the_room_that_is_left(trained, shown, height):
    """At most twelve lines, and none where everything else fills the terminal."""
    lines = shown(height)
    curve = [line for line in lines if re.search("[\u2800-\u28ff]{9}", line)]
    assert len(curve) == {10: 0, 18: 3, 24: 9, 60: 12}[height]
    assert height == 10 or len(lines) < height


def test_a_terminal_without_unicode(trained, shown):
    """Has stars and plain lines."""
    lines = shown(encoding="ascii")
    assert all(line.isascii() for line in lines)
    assert sum("*" in line for line in lines) >= 12


def test_a_narrow_terminal(trained, shown):
    """Is not overrun."""
    assert max(map(len, shown(width=40))) <= 40


@pytest.mark.parametrize("text", ["<script>\x1b[2J", "[red]x[/]", "\x1b]0;owned\x07", "a\u202eb"])
def test_texts_of_the_run_are_shown_not_obeyed(written, shown, text):
    """Names of stages, figures, scores and models, messages and errors."""
    written.start({**written_stages(), text: {"train": {}}})
    written.add("stage_started", stage=text, verb="train")
    written.step(1, stage=text, **{text: 1.0})
    score = {"model": text, "evaluator": text, "metric": text, "value": 1.0, "stderr": 0.1}
    written.add("score", stage=text, step=1, n=1, **score)
    written.add("warning", message=text)
    written.add("failed", stage=None, error=text)
    told = "\n".join(shown())
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", told)
    seen = text.encode("unicode_escape").decode() if "\u202e" in text else None
    for line in (f"failed: {seen or ''}", f"warning: {seen or ''}"):
        assert line in told


@pytest.mark.parametrize(
    "event",
    [
        {"event": "step", "step": 2, "loss": "x", "lr": None, "memory": [], "tokens": {}},
        {"event": "score", "metric": 7, "value": "x", "model": None, "step": "y"},
        {"event": "score", "metric": "a", "value": 1, "interval": "ab"},
        {"event": "stage_finished", "seconds": "x"},
        {"event": "stage_started", "verb": 3, "time": "x"},
        {"event": "warning", "message": ["x"]},
        {"event": "step", "step": 2, "stage": ["x"]},
        {"event": {}, "stage": "base"},
        {"event": "failed", "stage": None, "error": {}},
    ],
)
def test_damaged_events_do_not_end_the_view(written, shown, event):
    """Whatever their fields hold."""
    written.start()
    written.step(1)
    written.add(event.pop("event"), **event)
    assert shown()[0].startswith("run  ")


@pytest.mark.parametrize("width", [40, 80])
def test_a_run_that_diverged_says_so(written, shown, width):
    """Beside its steps; its null score is no number, and a stage that ended early tells why."""
    written.start()
    for number in (1, 2, 3):
        written.step(number, loss=None if number > 2 else 1.0)
    written.add("score", step=3, model="base", metric="loss", value=None, stderr=None, n=3)
    written.add("ended_early", step=3, reason="no better")
    written.add("stage_finished", seconds=1.0)
    lines = shown(width=width)
    assert "loss is not finite since step 3" in "\n".join(lines)
    assert "ended early at step 3: no better" in "\n".join(lines)
    assert re.search("loss +not finite", "\n".join(lines))
    assert max(map(len, lines)) <= width
