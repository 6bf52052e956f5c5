"""What tests of specs share."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

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


@pytest.fixture(scope="module")
def made(_tiny, finished_run, tmp_path_factory):
    """A spec, and a run of it that has what the members of the matrix begin with."""
    from engine.launch import Process
    from engine.session import run_spec

    folder = tmp_path_factory.mktemp("matrix")
    spec = copy.deepcopy(_tiny)
    base = spec["stages"].pop("base")["train"]
    base |= {"budget": "1 steps", "evaluate": [], "precision": "fp32"}
    base["model"] |= {"layers": 1, "context": 64}
    gpt2 = {"n_embd": 32, "n_layer": 1, "n_head": 2, "n_positions": 64}
    gpt2 |= dict.fromkeys(("resid_pdrop", "embd_pdrop", "attn_pdrop"), 0.2)
    dropping = {"type": "causal-lm", "architecture": "gpt2", "config": gpt2}
    spec["stages"] |= {"plain": {"train": base}, "dropout": {"train": {**base, "model": dropping}}}
    shutil.copytree(finished_run / "corpus", folder / "runs" / "tiny" / "corpus")
    file = folder / "spec.yaml"
    file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    assert run_spec(load_spec(file), folder / "runs", Process(), as_json=True) == 0
    words = "cat dog mouse bird fish cow".split()
    rows = [(f"{i} {w}:", f" a {w}" * (1 + i % 3), f" no {w}") for i in range(12) for w in words]
    records = {
        "completion": [{"prompt": p, "completion": good} for p, good, _ in rows],
        "preference": [{"prompt": p, "chosen": good, "rejected": bad} for p, good, bad in rows],
        "prompt": [{"prompt": p} for p, _, _ in rows],
    }
    for schema, lines in records.items():
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / f"{schema}.jsonl").write_text(text, encoding="utf-8")
    return spec, folder
