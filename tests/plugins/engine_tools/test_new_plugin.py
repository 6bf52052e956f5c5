"""``engine new-plugin`` writes a package that works as it is, or nothing."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from engine_tools.new_plugin import write_plugin

from engine import SpecError


def test_what_is_written_installs_and_passes_its_own_tests(engine, installed, tmp_path):
    """The kit and a run of its example among them; and the engine lists it."""
    told = engine("new-plugin", "tidy-lines", "--to", tmp_path).stdout
    folder = tmp_path / "engine-tidy-lines"
    assert f"pip install -e {folder}" in told
    python = installed(folder)
    python("-m", "pytest", "-q", "-p", "no:cacheprovider", cwd=folder)
    listed = python("-m", "engine.cli", "plugins", "--check").stdout
    assert "tidy-lines  engine-tidy-lines 0.1.0  ok" in listed


@pytest.mark.parametrize("check", [["check"], ["format", "--check"]])
def test_what_is_written_is_in_style(tmp_path, check):
    """By the rules in its own pyproject, whatever the length of its name."""
    folder = write_plugin("a-name-that-is-longer-than-most", tmp_path)
    subprocess.run(
        [sys.executable, "-m", "ruff", *check, "--no-cache", "--quiet", folder], check=True
    )


@pytest.mark.parametrize("name", ["Tidy", "tidy_lines", "7up", "-x", "a--b", "../tidy", ""])
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
    ("name", "holder"), [("lm", "the plugin lm"), ("length", "a processor of data")]
)
def test_a_name_that_is_taken_would_clash(tmp_path, name, holder):
    """Both a plugin's and a processor's: what is written has both."""
    with pytest.raises(SpecError, match=f"'{name}' is taken by {holder}"):
        write_plugin(name, tmp_path)
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
