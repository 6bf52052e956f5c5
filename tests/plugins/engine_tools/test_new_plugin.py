"""``engine new-plugin`` writes a package that works as it is, or nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from engine_tools import guide
from engine_tools.new_plugin import write_plugin

from engine import SpecError

KINDS = list(guide.examples())


def _passes(folder, installed) -> str:
    """What `engine plugins --check` says where a package is installed whose tests pass."""
    python = installed(folder)
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    return python("-m", "engine.cli", "plugins", "--check").stdout


def test_a_component_of_each_kind_installs_and_passes_its_own_tests(engine, installed, tmp_path):
    """The kit and a run of its example among them; and the engine lists the plugin."""
    kinds = ("--kind", ",".join(KINDS[2:]), "--kind", KINDS[0], "--kind", KINDS[1])
    told = engine("new-plugin", "tidy-lines", *kinds, "--to", tmp_path).stdout
    folder = tmp_path / "engine-tidy-lines"
    assert f"pip install -e {folder}" in told
    assert len(list((folder / "src" / "engine_tidy_lines").glob("*.py"))) == 3 + len(KINDS)
    assert "tidy-lines  engine-tidy-lines 0.1.0  ok" in _passes(folder, installed)


@pytest.mark.soak
@pytest.mark.parametrize("kind", KINDS)
def test_a_component_of_one_kind_installs_and_passes_its_own_tests(installed, tmp_path, kind):
    """Built-in components have the places of the others in its example."""
    folder = write_plugin(f"my-{kind}", tmp_path, [kind])
    assert f"engine-my-{kind} 0.1.0  ok" in _passes(folder, installed)


def test_it_is_a_processor_where_no_kind_is_asked_for(command, tmp_path):
    """Which has the plugin's name, and trains a model in its example."""
    command("new-plugin", "tidy", "--to", tmp_path)
    (example,) = tmp_path.glob("engine-tidy/example.yaml")
    stages = yaml.safe_load(example.read_text(encoding="utf-8"))["stages"]
    assert stages["corpus"]["prepare"]["processors"] == [{"type": "tidy"}]
    assert list(stages) == ["corpus", "base"]


@pytest.mark.parametrize("kinds", [KINDS, KINDS[:1], ["executor"], ["model", "strategy"]])
@pytest.mark.parametrize("check", [["check"], ["format", "--check"]])
def test_what_is_written_is_in_style(tmp_path, check, kinds):
    """By the rules in its own pyproject, whatever the length of its name."""
    folder = write_plugin("a-name-that-is-longer-than-most", tmp_path, kinds)
    subprocess.run(
        [sys.executable, "-m", "ruff", *check, "--no-cache", "--quiet", folder], check=True
    )


@pytest.mark.parametrize("name", ["tidy-up", "tidy_up", "engine-tidy-up", "engine_tidy_up"])
def test_a_plugins_name_may_be_its_distributions_or_its_packages(command, tmp_path, name):
    """All are one plugin; the command says which."""
    out, _ = command("new-plugin", name, "--to", tmp_path)
    assert "engine-tidy-up: the plugin 'tidy-up'; now `pip install" in out
    assert (tmp_path / "engine-tidy-up" / "src" / "engine_tidy_up" / "plugin.py").is_file()


@pytest.mark.parametrize("name", ["Tidy", "7up", "-x", "a--b", "../tidy", "", "engine-"])
def test_other_than_kebab_case_is_no_name(tmp_path, name):
    """The message says what is."""
    with pytest.raises(SpecError, match=f"'{name}' is not a valid plugin name; use small letters"):
        write_plugin(name, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_is_told_on_the_command_line(engine, tmp_path):
    """In a line, with the status of a wrong command."""
    told = engine("new-plugin", "Tidy", "--to", tmp_path, status=2).stderr
    assert told.startswith("'Tidy' is not a valid plugin name; use")


@pytest.mark.parametrize(
    ("name", "kind", "holder"),
    [
        ("lm", "model", "the plugin lm (training-engine"),
        ("engine-tools", "model", "the plugin tools (training-engine"),
        ("run", "model", "the command `engine run`, which would hide the plugin's commands"),
        ("generate", "model", "the command `engine generate`, which would"),
        ("length", "processor", "a processor of data"),
        ("length", "corpus-step", "a corpus-step of data"),
        ("length", "reward", "a reward of rlhf"),
    ],
)
def test_a_name_that_is_taken_would_clash(command, tmp_path, name, kind, holder):
    """A plugin's, a command's or a component's of the same kind."""
    _, err = command("new-plugin", name, "--kind", kind, "--to", tmp_path, status=2)
    assert err.startswith(f"'{name.removeprefix('engine-')}' is taken by {holder}")
    assert list(tmp_path.iterdir()) == []


def test_a_kind_that_does_not_exist_is_told_with_those_that_do(command, tmp_path):
    """Nothing is written."""
    _, err = command("new-plugin", "tidy", "--kind", "model,prize", "--to", tmp_path, status=2)
    assert err == f"--kind: no kind 'prize'; there are: {', '.join(KINDS)}\n"
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_exists_stays_as_it_is(tmp_path):
    """Also an empty one."""
    (tmp_path / "engine-tidy").mkdir()
    with pytest.raises(SpecError, match="engine-tidy: exists already; choose another name"):
        write_plugin("tidy", tmp_path)
    assert list(tmp_path.rglob("*")) == [tmp_path / "engine-tidy"]


def test_nothing_half_written_stays(tmp_path, monkeypatch):
    """A disk that is full at the third file leaves no trace."""
    write, written = Path.write_text, []

    def fill(self, *arguments, **options):
        written.append(self)
        if len(written) == 3:
            raise OSError(28, "No space left on device")
        return write(self, *arguments, **options)

    monkeypatch.setattr(Path, "write_text", fill)
    with pytest.raises(SpecError, match="engine-tidy: cannot be written: No space left on device"):
        write_plugin("tidy", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_no_folder_to_write_in(tmp_path):
    """The user's mistake, and said so."""
    (tmp_path / "file").touch()
    with pytest.raises(SpecError, match="cannot be written"):
        write_plugin("tidy", tmp_path / "file")
