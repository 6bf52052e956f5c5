"""Runs in this process: quicker than the command line, and open to a look inside."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

from engine.launch import Process
from engine.session import run_spec
from engine.spec import load_spec


@dataclass(frozen=True)
class Here:
    """A run's folder and what is in it."""

    folder: Path
    status: int

    def events(self, name: str) -> list[dict[str, Any]]:
        lines = (self.folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
        return [e for line in lines if (e := json.loads(line))["event"] == name]

    def steps(self, field: str) -> list[Any]:
        return [e[field] for e in self.events("step")]

    def weights(self, stage: str = "base") -> dict[str, Any]:
        return load_file(self.folder / stage / "final" / "model.safetensors")

    def card(self) -> dict[str, Any]:
        return json.loads((self.folder / "corpus" / "card.json").read_text(encoding="utf-8"))


@pytest.fixture
def run_here(write_spec, tmp_path, finished_run, capsys) -> Callable[..., Here]:
    """Runs a spec; the tiny corpus is copied unless the spec prepares another one."""

    original = yaml.safe_load((finished_run / "spec.yaml").read_text(encoding="utf-8"))

    def run(spec: dict[str, Any], *, runs: str = "runs", **options: Any) -> Here:
        loaded = load_spec(write_spec(spec), overrides=options.pop("overrides", ()))
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
