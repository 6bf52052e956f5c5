"""What tests of specs share."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from support.zesty import CONFIG, PLUGIN

from engine.cli.commands import cli
from engine.errors import EngineError
from engine.spec.loading import load_spec


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


@pytest.fixture(scope="module")
def made(_tiny, finished_run, tmp_path_factory):
    """A spec, and a run of it that has what the members of the matrix begin with."""
    from engine.processes.process import Process
    from engine.runs.session import run_spec

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


@pytest.fixture
def quick(monkeypatch):
    """Half a second is long enough.

    The alarm may fall into a callback of the garbage collector (Hypothesis has one), which reports
    it as unraisable; it comes again a second later.
    """
    monkeypatch.setattr("engine.deadline.SECONDS", 0.5)
    warnings.filterwarnings("ignore", category=pytest.PytestUnraisableExceptionWarning)


@pytest.fixture
def install(tmp_path, monkeypatch) -> Callable[..., Path]:
    """Puts a distribution with one plugin into a folder on the path, and gives its module's file."""
    modules = []

    def install(
        name: str,
        plugin: str = PLUGIN,
        *,
        config: str = CONFIG,
        distribution: str | None = None,
        type_: str | None = None,
        extra: str = "",
        group: str = "engine.v1",
    ) -> Path:
        distribution = distribution or f"engine-{name}"
        module = distribution.replace("-", "_")
        site = tmp_path / "site" / distribution
        described = site / f"{module}-2.0.dist-info"
        described.mkdir(parents=True)
        (described / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 2.0\nProvides-Extra: fancy\n"
            "Requires-Dist: no-such-thing>=1; extra == 'fancy'\n"
            "Requires-Dist: pydantic; extra == 'plain'\n"
        )
        (described / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
        words = {"type": type_ or name, "module": module, "extra": extra}
        for key, word in words.items():
            plugin = plugin.replace("{" + key + "}", word)
        (site / f"{module}.py").write_text(plugin)
        (site / f"{module}_config.py").write_text(config)
        monkeypatch.syspath_prepend(site)
        modules.extend([module, f"{module}_config"])
        return site / f"{module}.py"

    yield install
    for module in modules:
        sys.modules.pop(module, None)


@pytest.fixture
def zesty_spec(tiny_spec):
    """The tiny spec with an optimizer that no built-in plugin has."""
    tiny_spec["stages"]["base"]["train"]["optimizer"] = {"type": "zesty", "zest": 2}
    return {"plugins": [], **tiny_spec}


@pytest.fixture
def listed():
    """What `engine plugins --json` says, by plugin."""

    def listed(*options: str, status: int = 0):
        done = CliRunner().invoke(cli, ["plugins", "--json", *options], standalone_mode=False)
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        assert (done.return_value or 0) == status
        return {(row["distribution"], row["name"]): row for row in json.loads(done.output)}

    return listed
