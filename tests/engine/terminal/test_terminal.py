"""What a model, a file or a service wrote is shown on a terminal, never obeyed."""

from __future__ import annotations

import io
import re
import subprocess
import sys

import pytest
from rich.table import Table
from rich.text import Text

from engine.event_log import RichDisplay
from engine.terminal.console import Terminal
from engine.terminal.output import cleaned, write_cleaned

CLIPBOARD, TITLE = "\x1b]52;c;cm0gLXJmIH4=\x07", "\x1b]0;owned\x07"
ATTACKS = {
    "clipboard": CLIPBOARD,
    "title": TITLE,
    "title in eight bits": "\x9d0;owned\x9c",
    "colour": "\x1b[31mred",
    "cursor": "\x1b[2J\x1b[H",
    "overwritten line": "refused\rallowed",
    "backspaces": "no\b\bok",
    "bell": "\a",
    "shift out": "\x0e",
    "delete": "\x7f",
    "bidi override": "a\u202etxt.exe",
    "bidi isolate": "a\u2067b\u2069",
    "mark": "\u200fa",
    "line separator": "a\u2028error: b",
    "half of a pair": "\ud83d",
    "tags": "\U000e0041",
    "link": "\x1b]8;;http://evil/\x1b\\here\x1b]8;;\x1b\\",
}  # fmt: skip
OBEYED = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\u200f\u202a-\u202e\u2028\u2067\u2069\U000e0041]"
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_way_to_the_terminal_is_clean(attack, capsys):
    """A text as it comes, rich text, markup, a table, an event, and a bar's note."""
    text = ATTACKS[attack]
    write_cleaned(text)
    write_cleaned(text, error=True)
    terminal = Terminal(width=200)
    table = Table("a")
    table.add_row(text)
    terminal.print(text, Text(text, style="bold"), table, markup=False)
    terminal.rule(text)
    display = RichDisplay()
    display.event({"event": "warning", "message": text})
    display.progress(text, 1, 2, text)
    display.close()
    out, err = capsys.readouterr()
    assert OBEYED.search(out + err) is None
    assert repr(OBEYED.search(text)[0])[1:-1] in out


def test_no_name_becomes_a_link():
    """Whatever of it rich takes for markup."""
    out = io.StringIO()
    terminal = Terminal(file=out, force_terminal=True, color_system="standard", width=80)
    table = Table("a")
    table.add_row("[link=http://evil]here[/link]")
    terminal.print("[link=http://evil]here[/link]", table)
    assert "http" not in out.getvalue()


def test_a_terminal_s_own_colours_stay():
    """Only texts are cleaned."""
    out = io.StringIO()
    terminal = Terminal(file=out, force_terminal=True, color_system="standard", width=80)
    terminal.print(Text("a\x1b[2Jb", style="red"))
    assert out.getvalue() == "\x1b[31ma\\x1b[2Jb\x1b[0m\n"


@pytest.mark.parametrize(
    "text",
    ["plain", "tab\tnewline\n", "žluťoučký 中文 שלום", "👩‍👩‍👧", "نمی‌خواهم", "a\u00a0b\u00adc"],
)
def test_what_people_write_stays(text):
    """In all scripts; lines that end as on Windows end in a newline."""
    assert cleaned(text) == text
    assert cleaned("a\r\nb") == "a\nb"


def test_errors_warnings_and_logs_of_a_command_are_clean():
    """Whoever raised or logged them."""
    code = (
        "import logging, sys, threading, warnings\n"
        "from engine.cli.commands import main, cli\n"
        "from engine.errors import RunError\n"
        "def fail(): raise ValueError('\\x1b]0;g\\x07')\n"
        "class Ends:\n"
        "    def __del__(self): raise ValueError('\\x1b]0;h\\x07')\n"
        "@cli.command('x')\n"
        "def x():\n"
        "    warnings.warn('\\x1b]0;a\\x07')\n"
        "    logging.getLogger('any').warning('%s', '\\x1b]0;b\\x07')\n"
        "    library = logging.getLogger('library')\n"
        "    library.addHandler(logging.StreamHandler())\n"
        "    library.warning('\\x1b]0;f\\x07')\n"
        "    thread = threading.Thread(target=fail)\n"
        "    thread.start()\n"
        "    thread.join()\n"
        "    Ends()\n"
        "    raise RunError('\\x1b]0;c\\x07')\n"
        "@cli.command('y')\n"
        "def y():\n"
        "    raise KeyError('e') from ValueError('\\x1b]0;e\\x07')\n"
        "main(sys.argv[1:])\n"
    )
    for arguments, shown in ((["x"], "abcfgh"), (["y"], "e"), (["\x1b]0;d\x07"], "d")):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
        assert [f"0;{letter}\\x07" in done.stderr for letter in shown] == [True] * len(shown)
        assert "\x1b" not in done.stderr + done.stdout


def test_what_an_encoding_lacks_is_written_out(monkeypatch):
    """A terminal without UTF-8 ends no command in a traceback."""
    out = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    write_cleaned("š")
    assert out.buffer.getvalue() == b"\\u0161"


def test_a_model_s_words_are_clean(command, finished_run):
    """What it is asked and what it goes on with."""
    options = ("--max-tokens", 3, "--temperature", 0, "--top-p", 1)
    out, _ = command("generate", finished_run / "base", "--prompt", TITLE, *options)
    assert out.startswith(repr(TITLE)[1:-1])
    assert OBEYED.search(out) is None
