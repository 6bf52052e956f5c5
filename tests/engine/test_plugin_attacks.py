"""What an installed plugin may do to the engine and to specs that do not name it: each attack beside
the outcome that was expected. As code, it has its user's rights; its faults are told as its own."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from engine.cli.commands import cli
from engine.registry import Plugin, Plugins
from engine.spec.loading import load_spec

HEAD = "from engine import Component, hookimpl\n"
CONFIG = "engine_mine.config:Mine"
DECLARES = f"{HEAD}@hookimpl\ndef engine_optimizers():\n    return [{{}}]\n"
MINE = f'Component("mine", "{CONFIG}", "{CONFIG}", "Mine.")'


def _declares(*components: str) -> str:
    return DECLARES.format(", ".join(components))


BROKEN = {  # plugin.py: how it is told to be broken
    "an end that is no exception": ("class End(BaseException): pass\nraise End('now')", "End: now"),
    "an error of many lines": ("raise ValueError('one\\n\\n  two')", "ValueError: one two"),
    "a generator's end": ("raise GeneratorExit('x')", "GeneratorExit: x"),
    "a type that is no word": (
        _declares(MINE.replace('"mine"', '"\\x1b]0;mine\\x07"')),
        "ValueError: engine_optimizers returned the type '\\x1b]0;mine\\x07'",
    ),
    "a type that is a path": (
        _declares(MINE.replace('"mine"', '"../mine"')),
        "ValueError: engine_optimizers returned the type '../mine'",
    ),
    "a type that is no text": (
        _declares(MINE.replace('"mine"', "7")),
        "ValueError: engine_optimizers returned the type 7",
    ),
    "one type twice": (
        _declares(MINE, MINE),
        "ValueError: engine_optimizers returned the type 'mine' twice",
    ),
    "a hook with another's arguments": (
        f"{HEAD}@hookimpl\ndef engine_run_started(everything):\n    pass\n",
        "PluginValidationError",
    ),
}


@pytest.mark.parametrize("attack", BROKEN)
def test_a_plugin_that_breaks_is_told_in_a_line(attack, install_here, tiny_spec, write_spec):
    """And takes nothing with it: a spec that does not name it is as valid as before."""
    text, told = BROKEN[attack]
    install_here({"engine_mine/__init__.py": "", "engine_mine/plugin.py": text})
    (mine,) = (p for p in Plugins.discover().plugins if p.name == "mine")
    assert mine.status == "broken"
    assert mine.error is not None
    assert mine.error.startswith(told)
    assert "\n" not in mine.error
    load_spec(write_spec(tiny_spec))


def test_a_plugin_that_prints_does_not_write_into_a_command_s_output(install_here):
    """What machines read stays JSON."""
    install_here({"engine_mine/__init__.py": "", "engine_mine/plugin.py": "print('hello')"})
    done = CliRunner().invoke(cli, ["plugins", "--json"])
    assert {row["name"] for row in json.loads(done.stdout)} >= {"mine", "lm"}
    assert "hello" in done.stderr


WATCHES = f"""{HEAD}
@hookimpl(wrapper=True, tryfirst=True)
def engine_schedules():
    yield
    return []

@hookimpl
def engine_run_started(folder, spec):
    raise AssertionError("nobody named it")

@hookimpl
def engine_optimizers():
    return [Component("adamw", "{CONFIG}", "{CONFIG}", "Mine.", default=True)]
"""


def test_a_plugin_that_is_not_named_has_no_part_in_a_run(install_here, tiny_spec, run_here):
    """It sees no run, hides no component, and stands in for none: neither by name nor by default."""
    files = {
        "engine_mine/plugin.py": WATCHES,
        "engine_mine/config.py": "raise AssertionError('asked')",
    }
    install_here({"engine_mine/__init__.py": "", **files})
    train = tiny_spec["stages"]["base"]["train"]
    train["budget"] = "1 steps"
    assert run_here(tiny_spec).status == 0


def test_a_plugin_s_words_are_clean_on_a_terminal(install_here):
    """Its errors are shown, and obeyed by nothing."""
    text = "raise ValueError('\\x1b[2JMine.')"
    install_here({"engine_mine/__init__.py": "", "engine_mine/plugin.py": text})
    done = CliRunner().invoke(cli, ["plugins"])
    assert "Mine." in done.output
    assert "\x1b" not in done.output


def test_a_distribution_s_name_and_version_are_no_markup(monkeypatch):
    """Whatever its metadata say, it is a line, and so are the others."""
    plugin = Plugin("mine", "dist[/x]", "1[/red]", "ok")
    monkeypatch.setattr(Plugins, "discover", lambda: Plugins([plugin]))
    assert "mine  dist[/x] 1[/red]  ok" in CliRunner().invoke(cli, ["plugins"]).output
