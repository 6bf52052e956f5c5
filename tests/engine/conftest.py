"""What tests of specs share."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from engine import spec as specs
from engine.errors import EngineError
from engine.plugins import Plugins
from engine.spec import load_spec


@pytest.fixture(scope="module")
def composed_once() -> Iterator[None]:
    """Finding the plugins and composing their models does not depend on the spec: once is enough."""
    discover, compose = cache(Plugins.discover), cache(specs.spec_class)
    select = cache(Plugins.selected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Plugins, "discover", lambda blocked=(): discover(tuple(blocked)))
        patch.setattr(Plugins, "selected", lambda self, names: select(self, tuple(names)))
        patch.setattr(specs, "spec_class", compose)
        yield


@pytest.fixture
def told(write_spec, tmp_path) -> Callable[..., list[str]]:
    """What loading a spec says is wrong with it, without the folder's name; status 2 each time."""

    def told(spec: dict[str, Any] | str | bytes | Path, **options: Any) -> list[str]:
        if isinstance(spec, bytes):
            file = tmp_path / "spec.yaml"
            file.write_bytes(spec)
        else:
            file = spec if isinstance(spec, Path) else write_spec(spec)
        with pytest.raises(EngineError) as caught:
            load_spec(file, **options)
        assert caught.value.exit_status == 2
        return str(caught.value).replace(f"{tmp_path}/", "").split("\n")

    return told


@pytest.fixture
def python() -> Callable[[str], str]:
    """What Python prints when it runs some code in a fresh process."""

    def run(code: str) -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    return run


@pytest.fixture
def command(capsys, monkeypatch) -> Callable[..., tuple[str, str]]:
    """Runs a command in this process: what it printed to stdout and to stderr."""
    from engine.cli import main

    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments: object, status: int = 0) -> tuple[str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(map(str, arguments)))
        told = capsys.readouterr()
        assert ended.value.code == status, told
        return told.out, told.err

    return run


@pytest.fixture
def copied(finished_run, tmp_path) -> Path:
    """A finished run that may be changed."""
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / "tiny"))
