"""The oldest and newest versions that the package allows, on the ready specs at a tiny size."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SMOKE = """
import json, sys
from importlib import metadata
from pathlib import Path
from engine.testing import run_spec

spec, runs, *overrides = sys.argv[1:]
done = run_spec(Path(spec), Path(runs), *overrides)
print(json.dumps({
    "versions": {name: metadata.version(name) for name in ("torch", "transformers")},
    "losses": done.losses,
    "scores": [event["value"] for event in done.events if event["event"] == "score"],
}))
"""
TINY = {
    "corpus.prepare.sources": "[{type: python-library, parts: [topics]}]",
    "corpus.prepare.tokenizer.vocab_size": 512,
    "base.train.model": "{type: llama, hidden_size: 32, layers: 2, heads: 2, context: 64}",
    "base.train.batch.tokens": 1024,
    "base.train.budget": "4 steps",
    "base.train.activation_checkpointing": "full",
    "tuned.train.budget": "2 steps",
    "gain.evaluate.evaluators.0.limit": 20,
}


def _oldest(name: str) -> str:
    """That pyproject.toml allows, as a full version."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    (found,) = (d for d in project["dependencies"] if d.startswith(f"{name}>="))
    return found.removeprefix(f"{name}>=").partition(",")[0] + ".0"


def _smoke(python: str, folder: Path, env: dict[str, str] | None = None) -> dict:
    overrides = [f"stages.{field}={value}" for field, value in TINY.items()]
    told = subprocess.run(
        [python, "-c", SMOKE, str(ROOT / "specs" / "few_shot.yaml"), str(folder), *overrides],
        env={**os.environ, **(env or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    return json.loads(told.stdout.splitlines()[-1])


def test_the_oldest_transformers(tmp_path):
    """Pre-training, fine-tuning and scores; the losses are this version's, to rounding."""
    version = _oldest("transformers")
    subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile"),
            *("--target", str(tmp_path / "old"), f"transformers=={version}", "huggingface-hub<2"),
        ],
        check=True,
    )
    old = _smoke(sys.executable, tmp_path / "a", {"PYTHONPATH": str(tmp_path / "old")})
    here = _smoke(sys.executable, tmp_path / "b")
    assert old["versions"]["transformers"] == version != here["versions"]["transformers"]
    assert old["losses"] == pytest.approx(here["losses"], rel=1e-4)
    assert old["scores"] == pytest.approx(here["scores"], rel=1e-3)


TORCHES = ("2.11.0", "2.12.1", "2.14.1")
"""The oldest that pyproject.toml allows, and others around the one of constraints.txt."""


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("version", TORCHES)
def test_another_torch(version, tmp_path):
    """In an environment of its own, which downloads several GB: the smoke test, and the tests of
    models, attention, packing, strategies and checkpoints."""
    assert TORCHES[0] == _oldest("torch")
    pins = (ROOT / "constraints.txt").read_text("utf-8").splitlines()
    kept = [p for p in pins if not p.startswith(("torch==", "triton==", "nvidia", "setuptools=="))]
    constraints = tmp_path / "constraints.txt"
    constraints.write_text("\n".join([*kept, f"torch=={version}"]) + "\n", encoding="utf-8")
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    subprocess.run(
        [python, "-m", "pip", "install", "-q", "-c", constraints, "-e", f"{ROOT}[all,test]"],
        check=True,
    )
    told = _smoke(python, tmp_path / "runs")
    assert told["versions"]["torch"].partition("+")[0] == version
    parts = ("engine_lm", "engine_parallel/test_replicated.py", "engine_sft")
    tests = [f"tests/plugins/{part}" for part in parts if (ROOT / "tests/plugins" / part).exists()]
    tests += [
        "tests/engine/data",
        "tests/engine/modeling/test_token_loss.py",
        "tests/engine/runs/test_resume.py",
    ]
    subprocess.run(
        [python, "-m", "pytest", "-q", "-n", "2", "--dist", "loadfile", *tests],
        check=True,
        cwd=ROOT,
    )
