"""Runs of the tiny spec, finished ones and new ones in this process; a plugin of pytest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import runs
from support.command_line import Engine


@pytest.fixture(scope="session")
def finished_run(
    _tiny: dict[str, Any], engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """The folder of a finished run of the tiny spec. Copy it before you change anything in it."""
    runs = tmp_path_factory.mktemp("finished")
    spec = runs / "tiny.yaml"
    spec.write_text(yaml.safe_dump(_tiny), encoding="utf-8")
    engine("run", spec, "--runs", runs)
    return runs / "tiny"


@pytest.fixture(scope="session")
def prepared(finished_run: Path) -> Callable[[Path], Path]:
    """A run's folder in which the tiny corpus is prepared already."""

    def copy(runs: Path) -> Path:
        shutil.copytree(finished_run / "corpus", runs / "tiny" / "corpus")
        return runs / "tiny"

    return copy


@pytest.fixture
def copied(finished_run, tmp_path) -> Path:
    """A finished run that may be changed."""
    return Path(shutil.copytree(finished_run, tmp_path / "runs" / "tiny"))


@dataclass(frozen=True)
class Here:
    """A run's folder and what is in it."""

    folder: Path
    status: int

    def events(self, name: str | None = None, **fields: Any) -> list[dict[str, Any]]:
        return runs.events(self.folder, name, **fields)

    def steps(self, field: str, **fields: Any) -> list[Any]:
        return runs.steps(self.folder, field, **fields)

    def weights(self, stage: str = "base") -> dict[str, Any]:
        return runs.weights(self.folder, stage)

    def card(self) -> dict[str, Any]:
        return json.loads((self.folder / "corpus" / "card.json").read_text(encoding="utf-8"))


@pytest.fixture
def run_here(write_spec, tmp_path, finished_run, capsys) -> Callable[..., Here]:
    """Runs a spec; the tiny corpus is copied unless the spec prepares another one."""

    # Light fixtures must not wait for torch.
    from engine.processes.process import Process
    from engine.runs.session import run_spec
    from engine.spec.loading import load_spec

    original = yaml.safe_load((finished_run / "spec.yaml").read_text(encoding="utf-8"))

    def run(spec: dict[str, Any], *, runs: str = "runs", **options: Any) -> Here:
        read = {name: options.pop(name, ()) for name in ("overrides", "allow")}
        loaded = load_spec(write_spec(spec), **read)
        folder = tmp_path / runs / loaded.spec.name
        copied = folder / "corpus"
        if _corpus(spec) == _corpus(original) and not copied.exists():
            shutil.copytree(finished_run / "corpus", copied)
        status = run_spec(loaded, tmp_path / runs, Process(), as_json=True, **options)
        capsys.readouterr()
        return Here(folder, status)

    return run


def _corpus(spec: dict[str, Any]) -> Any:
    """All that the prepared data depends on."""
    return spec["seed"], spec["stages"].get("corpus")
