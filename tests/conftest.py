"""What all tests share: a tiny spec, real rows, and how this process runs; the rest is in `support`."""

from __future__ import annotations

import copy
import json
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # other processes share these cores
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["ENGINE_PRECISION"] = "fp32"  # what `auto` means, so that any machine shows the same
if "PYTEST_XDIST_WORKER" in os.environ:  # as many workers as cores
    os.environ["OMP_NUM_THREADS"] = "1"

pytest_plugins = [
    "support.golden",
    "support.covered",
    "support.command_line",
    "support.made_plugins",
    "support.tiny_runs",
]
Spec = dict[str, Any]
_WORDS = "the cat sat on a mat and saw one small grey mouse that ran under two old chairs".split()


@pytest.fixture(scope="session", autouse=True)
def _composed_once() -> Iterator[None]:
    """Finds the plugins and composes their models once for all specs: half of what a tiny run takes.

    Both depend on what is installed alone, so on the path where Python looks for it.
    """
    from engine.registry import Plugins
    from engine.spec import loading as spec

    original, select = Plugins.discover, cache(Plugins.selected)
    discover = cache(lambda path, blocked: original(blocked))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            Plugins, "discover", lambda blocked=(): discover(tuple(sys.path), tuple(blocked))
        )
        patch.setattr(Plugins, "selected", lambda self, names: select(self, tuple(names)))
        patch.setattr(spec, "spec_class", cache(spec.spec_class))
        yield


@pytest.fixture(autouse=True)
def environment() -> Iterator[None]:
    """Takes back what ``engine.cli.main`` sets for its process, which is this one in many tests."""
    yield
    os.environ.pop("PYTHONSAFEPATH", None)


@pytest.fixture(scope="session")
def real_rows() -> Callable[..., list[dict[str, Any]]]:
    """Reads a file of real rows; skips where there is none."""
    here = Path(__file__).parents[1]
    folder = Path(os.environ.get("ENGINE_REAL_DATA") or here.parent / "shared" / "data")

    def rows(name: str, limit: int | None = None) -> list[dict[str, Any]]:
        file = folder / f"{name}.jsonl"
        if not file.is_file():
            pytest.skip(f"no real rows: {file} (or set ENGINE_REAL_DATA)")
        lines = file.read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines[:limit]]

    return rows


@pytest.fixture(scope="session")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with 60 short text files, all different."""
    folder = tmp_path_factory.mktemp("texts")
    for i in range(60):
        words = [_WORDS[(i * k * k + k) % len(_WORDS)] for k in range(1, 40 + i % 7)]
        (folder / f"{i:02d}.txt").write_text(f"{i}: {' '.join(words)}.\n", encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def _tiny(texts: Path) -> Spec:
    return {
        "engine": 1,
        "name": "tiny",
        "seed": 5,
        "stages": {
            "corpus": {
                "prepare": {
                    "sources": [{"type": "files", "paths": [f"{texts}/*.txt"]}],
                    "tokenizer": {"type": "bpe", "vocab_size": 300},
                    "holdout": 0.1,
                    "executor": {"type": "local", "processes": 0},
                }
            },
            "base": {
                "train": {
                    "data": "corpus",
                    "model": {
                        "type": "llama",
                        "hidden_size": 32,
                        "layers": 2,
                        "heads": 2,
                        "context": 32,
                    },
                    "objective": {"type": "next-token"},
                    "optimizer": {"type": "adamw", "lr": 3e-3},
                    "batch": {"tokens": 256},
                    "budget": "6 steps",
                    "evaluate": [{"type": "perplexity"}],
                }
            },
        },
    }


@pytest.fixture
def tiny_spec(_tiny: Spec) -> Spec:
    """A prepare and a train stage that take about a second; change it as you like."""
    return copy.deepcopy(_tiny)


@pytest.fixture
def write_spec(tmp_path: Path) -> Callable[[Spec | str], Path]:
    """Writes a spec (data or YAML text) to a file."""

    def write(spec: Spec | str) -> Path:
        text = spec if isinstance(spec, str) else yaml.safe_dump(spec, sort_keys=False)
        file = tmp_path / "spec.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """What makes the process wait for its device in steps of this process: in what a strategy does, and
    where the loop reads the figures."""
    from engine_parallel.replicated import Replicated
    from engine_rlhf.online.joint_strategy import JointStrategy
    from support.waits import counted_waits, uncounted

    from engine.modeling import heads as modules
    from engine.training import loop

    found: Counter[str] = Counter()

    def counting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            with counted_waits(found):
                return function(*arguments, **named)

        return call

    for owner in (Replicated, JointStrategy):
        for name in ("forward_backward", "step"):
            monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    monkeypatch.setattr(loop, "read_scalars", counting(loop.read_scalars))
    monkeypatch.setattr(modules, "_found_on_host", uncounted(modules._found_on_host))
    return found
