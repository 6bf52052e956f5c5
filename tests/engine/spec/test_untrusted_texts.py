"""Templates, patterns, texts and files from untrusted sources neither run code nor take for ever."""

from __future__ import annotations

import ast
import os
import re
from pathlib import Path

import pytest
from support.sources import records_of
from support.tokenizers import byte_level

from engine.errors import RunError
from engine.event_log import RichDisplay
from engine.modeling.rendering import Conversation


@pytest.fixture(scope="module")
def tokenizer():
    return byte_level()


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "more than",
        ),
        ("{{ 9**(9**9) }}", "more than"),
        ("{% for a in range(10**9) %}{% endfor %}", "refuses"),
        ("{{ ''.__class__.__base__.__subclasses__() }}", "refuses"),
        ("{{ raise_exception('\\x1b]0;owned') }}", "refuses"),
        ("{% include '/etc/passwd' %}", "refuses"),
    ],
)
def test_a_stranger_s_chat_template(template, told, tokenizer, quick):
    """Ends in time and reaches nothing."""
    tokenizer.chat_template = template
    with pytest.raises(RunError, match=told):
        Conversation(tokenizer, [{"role": "user", "content": "x"}], None).render(1)


TEXTS = {
    "markup": "[link=http://evil][bold]x[/]",
    "a clipboard": "\x1b]52;c;eA==\x07",
    "a title": "\x9d0;x\x9c",
    "half of a pair": "\ud83d",
    "a line of our own": "ok\r\x1b[2Kbase: already done",
}


EVENTS = {
    "a warning": lambda text: {"event": "warning", "message": text},
    "a source": lambda text: {"event": "source", "message": text},
    "a bad row": lambda text: {
        "event": "documents", "source": text, "read": 1, "documents": 0, "dropped": {text: 1},
        "bad_rows": [text], "held_out": 0,
    },
    "a service's score": lambda text: {
        "event": "score", "metric": text, "evaluator": text, "model": text, "value": 1.0,
    },
    "a reason to end": lambda text: {"event": "ended_early", "step": 1, "reason": text},
    "a reason to go back": lambda text: {"event": "rolled_back", "step": 1, "reason": text},
    "a strategy": lambda text: {"event": "strategy_chosen", "strategy": {"type": "x"}, "why": text},
}  # fmt: skip


@pytest.mark.parametrize("text", TEXTS)
@pytest.mark.parametrize("event", EVENTS)
def test_a_stranger_s_text_in_an_event(event, text, capsys):
    """Is shown as it is, or written out; it neither moves the cursor nor links."""
    RichDisplay().event(EVENTS[event](TEXTS[text]))
    shown = capsys.readouterr().err
    assert not [c for c in shown if c in "\x1b\x9d\r\x07\ud83d"]
    plain = TEXTS[text].encode("unicode_escape").decode() if text != "markup" else TEXTS[text]
    assert plain.replace(" ", "") in "".join(shown.split())


def test_a_pattern_that_explodes_on_a_model_s_text(quick):
    """Is named, and ends the evaluation in time."""
    from engine_evals.benchmarks.record import Match
    from engine_evals.benchmarks.text_matching import answer_in

    with pytest.raises(RunError, match=r"the pattern '\(a\+\)\+\$' takes more than 0.5 s"):
        answer_in(Match(name="m", find="(a+)+$"), "a" * 60 + "b")


@pytest.mark.parametrize("kind", ["device", "pipe"])
def test_texts_that_never_end_are_not_read(kind, tmp_path):
    """They are said to be no files."""
    from engine_data.sources.local_files import FilesSource

    os.mkfifo(tmp_path / "pipe")
    path = "/dev/zero" if kind == "device" else str(tmp_path / "pipe")
    with pytest.raises(RunError, match="it is not a regular file"):
        records_of(FilesSource((path,)))


def test_whoever_reads_json_or_yaml_expects_depth():
    """A thousand lists in one another are no ValueError: where a file that is none is an answer, so is
    one that is too deep."""
    readers = {"json.loads", "json.load", "yaml.safe_load"}
    missing = []
    files = [*Path("engine").rglob("*.py"), *Path("plugins").rglob("*.py")]
    for file in (file for file in files if "testing" not in file.parts):
        for tried in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(tried, ast.Try) or not tried.handlers:
                continue
            calls = (n for s in tried.body for n in ast.walk(s) if isinstance(n, ast.Call))
            caught = " ".join(ast.unparse(h.type) for h in tried.handlers if h.type)
            reads = readers & {ast.unparse(call.func) for call in calls}
            if reads and not re.search(r"RecursionError|\bException\b", caught):
                missing.append(f"{file}:{tried.lineno}")
    assert missing == []
