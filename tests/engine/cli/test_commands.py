"""The command line: each command's status, its words and its figures for machines."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from importlib import metadata

import click
import pytest
from support.runs import events

from engine.cli.commands import cli

HEAVY = {"torch", "transformers", "pydantic", "structlog"}
_HERE = click.Context(cli)
_FOUND = {name: cli.get_command(_HERE, name) for name in cli.list_commands(_HERE)}
COMMANDS = {name: c for name, c in _FOUND.items() if not isinstance(c, click.Group)}
READS = "reads outside the spec's folder: {}: 60 files\n".format


# ------------------------------------------------------------------------------- what it imports


@pytest.mark.parametrize(
    ("arguments", "heavy"),
    [
        (["--help"], HEAVY),
        (["run", "--help"], HEAVY),
        (["plugins"], {"torch", "transformers"}),
        (["validate", "SPEC"], {"torch", "transformers"}),
        (["plan", "SPEC", "--speed", "1e12"], {"torch", "transformers"}),
        (["schema"], {"torch", "transformers"}),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_commands_start_at_once(python, tiny_spec, write_spec, arguments, heavy):
    """They import only what they need; a plan imports torch to measure where no speed is given."""
    words = [str(write_spec(tiny_spec)) if word == "SPEC" else word for word in arguments]
    loaded = python(
        "import contextlib, io, sys\n"
        "from engine.cli.commands import main\n"
        "with contextlib.redirect_stdout(io.StringIO()):\n"
        "    try:\n"
        f"        main({words!r})\n"
        "    except SystemExit as ended:\n"
        "        assert ended.code == 0, ended\n"
        "print(*sys.modules)"
    ).split()
    assert heavy & set(loaded) == set()


def test_a_command_of_which_only_the_beginning_is_read():
    """`engine schema | head` ends quietly."""
    piped = f"{shlex.quote(sys.executable)} -m engine.cli schema | head -1"
    done = subprocess.run(piped, shell=True, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{\n", "")


# ------------------------------------------------------------------------------------- its words


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_describes_itself(command, name):
    """In 80 columns: what it does, and what each option is for."""
    out, _ = command(name, "--help")
    assert COMMANDS[name].help.split("\n")[0][:40] in out
    assert max(map(len, out.splitlines())) <= 80
    options = [p for p in COMMANDS[name].params if isinstance(p, click.Option)]
    assert [option.name for option in options if not option.help] == []


def test_help_lists_all_commands_in_80_columns(command):
    """Those of the design are there."""
    out, _ = command("--help")
    listed = [line.split()[0] for line in out.partition("Commands:")[2].splitlines() if line]
    groups = ["corpus", "evals", "models", "rlhf", "scaling"]  # plugins' own
    assert listed == [*COMMANDS, *groups]
    assert {"run", "validate", "plan", "runs", "data", "plugins", "schema", "new-plugin",
            "verify-resume", "generate", "chat", "export"} <= set(listed)  # fmt: skip
    assert max(map(len, out.splitlines())) <= 80
    assert metadata.version("training-engine") in command("--version")[0]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["no-such-command"], "No such command 'no-such-command'"),
        (["run"], "Missing argument 'SPEC'"),
        (["run", "x.yaml", "--no-such-option"], "No such option"),
        (["run", "x.yaml", "--nproc", "0"], "0 is not in the range"),
        (["run", "x.yaml", "--allow", "all"], "--allow: 'all' is not one of versions|memory|code"),
        (["run", "x.yaml"], "x.yaml: cannot be read: No such file or directory"),
        (["plan", "x.yaml"], "x.yaml: cannot be read: No such file or directory"),
        (["plan", "x.yaml", "--memory", "much"], "'much' is no size; write e.g. 24GB or 16GiB"),
        (["validate", "x.yaml"], "x.yaml: cannot be read: No such file or directory"),
        (["verify-resume", "x.yaml"], "x.yaml: cannot be read: No such file or directory"),
        (["generate", "a/b", "--prompt", "x"], "a/b: not a stage of a run; name one as in"),
        (["chat", "a/b"], "a/b: not a stage of a run; name one as in"),
        (["data", "a/b"], "a/b: not a stage of a run; name one as in"),
        (["export", "a/b", "out"], "a/b: not a stage of a run; name one as in"),
        (["schema", "--plugin", "nope"], "'nope' is not installed"),
        (["plugins", "--reference", "nope"], "nope"),
        (["new-plugin", "Not A Name"], "Not A Name"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_a_wrong_command_line_is_status_2(command, tmp_path, monkeypatch, arguments, why):
    """Told on stderr, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    out, err = command(*arguments, status=2)
    assert why in err
    assert out == ""
    assert list(tmp_path.iterdir()) == []


# ------------------------------------------------------------------------------------------ specs


def test_a_valid_spec(command, tiny_spec, write_spec, texts):
    """Its stages in their order, and what it reads elsewhere."""
    spec = write_spec(tiny_spec)
    assert command("validate", spec) == (f"{spec}: valid; stages: corpus, base\n", READS(texts))


def test_a_wrong_spec_is_status_2(command, tiny_spec, write_spec, tmp_path):
    """Of `validate` and of `run` alike, and no folder is made."""
    tiny_spec["seed"] = -1
    tiny_spec["stages"]["base"]["train"]["nproc"] = 1
    spec = write_spec(tiny_spec)
    _, err = command("validate", spec, status=2)
    assert len(err.splitlines()) == 2
    assert command("run", spec, "--runs", tmp_path / "runs", status=2) == ("", err)
    assert list(tmp_path.iterdir()) == [spec]


def test_options_count_as_the_spec_does(command, tiny_spec, write_spec):
    """`--set`, `--nproc` and `--no-plugin` are validated with it."""
    spec = write_spec(tiny_spec)
    _, err = command("validate", spec, "--set", "seed=x", "--nproc", 2, status=2)
    assert "--set seed: seed: 'x': input should be a valid integer\n" in err
    assert "'single' runs on 1 process, not 2; use {type: ddp}\n" in err
    _, err = command("validate", spec, "--no-plugin", "lm", status=2)
    assert "no installed plugin provides a model" in err


@pytest.mark.parametrize(
    ("options", "why"),
    [
        (["--stage", "bse"], "--stage bse: no such stage; stages: corpus, base"),
        (["--rerun", "bse"], "--rerun bse: no such stage; stages: corpus, base"),
        (["--stage", "base", "--rerun", "corpus"], "--rerun corpus: --stage base excludes it"),
    ],
)
def test_stages_on_the_command_line(command, tiny_spec, write_spec, tmp_path, options, why):
    """A name that is none is told with those that are; no folder is made."""
    spec = write_spec(tiny_spec)
    _, err = command("run", spec, "--runs", tmp_path / "runs", *options, status=2)
    assert err == f"{why}\n"
    assert list(tmp_path.iterdir()) == [spec]


# ------------------------------------------------------------------------------------------- runs


def test_a_run_that_fails_is_status_1(command, tiny_spec, write_spec, copied, texts):
    """Here, as it would need what is not there yet; the log says so, too."""
    shutil.rmtree(copied / "corpus")
    shutil.rmtree(copied / "base")
    spec = write_spec(tiny_spec)
    _, err = command("run", spec, "--runs", copied.parent, "--stage", "base", status=1)
    why = "base: needs stage 'corpus', which is not done; run corpus first"
    assert err == f"{READS(texts)}error: {why}\n"
    assert events(copied)[-1]["event"] == "failed"


def test_a_run_that_is_done(command, tiny_spec, write_spec, copied, texts, monkeypatch):
    """Says what was made, and how to talk to it, in 80 columns."""
    monkeypatch.chdir(copied.parents[1])
    out, err = command("run", write_spec(tiny_spec))
    assert err == f"{READS(texts)}corpus: already done\nbase: already done\n"
    (talk,) = (line for line in out.splitlines() if line.startswith("  talk"))
    *command_line, prompt = shlex.split(talk)
    assert command_line == "talk engine generate runs/tiny/base --prompt".split()
    assert prompt.strip()
    assert prompt in "".join(f.read_text(encoding="utf-8") for f in sorted(texts.glob("*.txt")))
    assert "  model    runs/tiny/base/final\n" in out
    assert max(map(len, out.splitlines())) <= 80
    out, err = command("run", write_spec(tiny_spec), "--json")
    assert [json.loads(line)["event"] for line in out.splitlines()] == [
        "reads",
        "stage_skipped",
        "stage_skipped",
    ]
    assert err == ""


def test_two_runs_at_once(command, tiny_spec, write_spec, copied):
    """The second says so and leaves; nothing is changed."""
    from engine.storage.run_folder import RunFolder

    with RunFolder(copied).locked():
        before = [(path, path.stat().st_mtime_ns) for path in sorted(copied.rglob("*"))]
        _, err = command("run", write_spec(tiny_spec), "--runs", copied.parent, status=1)
        assert err == (
            f"error: {copied}: another run is using this folder (process {os.getpid()}); "
            "wait for it, stop it, or give this one another name\n"
        )
        after = [(path, path.stat().st_mtime_ns) for path in sorted(copied.rglob("*"))]
        assert after == before


def test_a_plugin_on_the_path_brings_its_command(engine, tmp_path):
    """A broken one beside it, of any distribution, is a line in a list."""
    for name, code in {
        "sound": "import click\nfrom engine import hookimpl\n@hookimpl\n"
        "def engine_commands():\n    return [click.Command('sing', callback=lambda: print('la'))]\n",
        "hollow": "import no_such_thing",
    }.items():
        described = tmp_path / f"choir_{name}-1.0.dist-info"
        described.mkdir()
        (described / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: choir-{name}\nVersion: 1.0"
        )
        (described / "entry_points.txt").write_text(f"[engine.v1]\n{name} = choir_{name}\n")
        (tmp_path / f"choir_{name}.py").write_text(code)
    here = {"PYTHONPATH": str(tmp_path)}
    assert engine("sound", "sing", env=here).stdout == "la\n"
    listed = engine("plugins", env=here).stdout
    assert "sound  choir-sound 1.0  ok" in listed
    assert "hollow  choir-hollow 1.0  broken\n  ModuleNotFoundError: No module named" in listed
