"""Benchmarks as a spec has them, rows for each, lm-eval's own tasks on the same rows, and models."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

Rows = Mapping[str, list[dict[str, Any]]]

LM_EVAL = {  # where lm-eval describes each type, below lm_eval/tasks
    "mmlu": "mmlu/default/mmlu_astronomy.yaml",
    "hellaswag": "hellaswag/hellaswag.yaml",
    "commonsense-qa": "commonsense_qa/default.yaml",
    "arc-easy": "arc/arc_easy.yaml",
    "arc-challenge": "arc/arc_challenge.yaml",
    "piqa": "piqa/piqa.yaml",
    "winogrande": "winogrande/default.yaml",
    "boolq": "super_glue/boolq/default.yaml",
    "openbook-qa": "openbookqa/openbookqa.yaml",
    "social-iqa": "siqa/siqa.yaml",
    "truthful-qa": "truthfulqa/truthfulqa_mc1.yaml",
    "gsm8k": "gsm8k/gsm8k.yaml",
    "math": "minerva_math/minerva_math_algebra.yaml",
}


@pytest.fixture(scope="session")
def evaluator() -> Callable[..., Any]:
    """Builds an evaluator from the fields that a spec would have."""
    from engine_evals.benchmarks.evaluator import build
    from support.internals import Composer

    from engine import Plugins

    composer = Composer(Plugins.discover().selected(()))

    def make(type_name: str, **fields: Any) -> Any:
        config = composer.config_class("evaluator", type_name)
        return build(config(type=type_name, **fields), None)

    return make


@pytest.fixture(scope="session")
def taught(_tiny, finished_run, tmp_path_factory) -> Callable[[int, float], Path]:
    """The folder of the tiny model after so many steps at a rate: one that has learnt something."""
    from support.internals import Process, run_spec

    from engine import load_spec

    @cache
    def train(steps: int, lr: float) -> Path:
        runs, spec = tmp_path_factory.mktemp("taught"), copy.deepcopy(_tiny)
        shutil.copytree(finished_run / "corpus", runs / "tiny" / "corpus")
        spec["stages"]["base"]["train"] |= {"budget": f"{steps} steps", "evaluate": []}
        spec["stages"]["base"]["train"]["optimizer"]["lr"] = lr
        (runs / "spec.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
        assert run_spec(load_spec(runs / "spec.yaml"), runs, Process(), as_json=True) == 0
        return runs / "tiny" / "base" / "final"

    return train


@pytest.fixture(scope="session")
def invented() -> dict[str, Rows]:
    """A few rows of each benchmark in the hub's shape, by type and split."""
    text = (Path(__file__).with_name("invented_rows.yaml")).read_text(encoding="utf-8")
    return yaml.safe_load(text)


@pytest.fixture
def folder(tmp_path: Path, invented: dict[str, Rows]) -> Path:
    """A folder with the invented rows, as `engine evals fetch` lays it out."""
    place = tmp_path / "evals"
    for name, splits in invented.items():
        part = {"mmlu": "astronomy", "math": "algebra"}.get(name, "")
        for split, rows in splits.items():
            write_rows(place / name / part / f"{split}.jsonl", rows)
    return place


@pytest.fixture
def write() -> Callable[[Path, list[Any]], Path]:
    """Writes rows as JSON lines."""
    return write_rows


def write_rows(file: Path, rows: list[Any]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = (row if isinstance(row, str) else json.dumps(row) for row in rows)
    file.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return file


@pytest.fixture
def lm_eval_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """lm-eval's own task on rows of ours, by split; it reads them as it reads any JSON."""
    import importlib.metadata

    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks import _yaml_loader

    version = importlib.metadata.version
    monkeypatch.setattr(  # its MATH wants an older antlr4 than math-verify's; the prompt needs none
        importlib.metadata, "version", lambda n: "4.11" if n.startswith("antlr4") else version(n)
    )
    tasks = Path(_yaml_loader.__file__).parent

    def make(name: str, splits: Rows, shots: int | None = None, **changed: Any) -> Any:
        config = _yaml_loader.load_yaml(tasks / (LM_EVAL.get(name) or name))
        files = {
            split: str(write_rows(tmp_path / "lm_eval" / f"{split}.jsonl", rows))
            for split, rows in splits.items()
        }
        cache = str(tmp_path / "lm_eval" / "cache")
        config |= {
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files, "cache_dir": cache},
            **changed,
        }
        if "train" not in splits and config.get("training_split"):
            config["training_split"] = None
        if shots is not None:
            config["num_fewshot"] = shots
        task = ConfigurableTask(config=config)
        task.set_fewshot_seed(1234)
        return task

    return make


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that has read Python's documentation, with a vocabulary of 2,000."""
    return _trained(
        tmp_path_factory.mktemp("small"), "topics", 2000, context=512, tokens=1024, steps=150
    )


@pytest.fixture(scope="session")
def wide_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that has read a little of Python's own sources, with a vocabulary of 50,257.

    Nine tenths of a step are its head, so steps are small: more of them teach more.
    """
    return _trained(
        tmp_path_factory.mktemp("wide"), "sources", 50257, context=256, tokens=256, steps=160
    )


def _trained(
    runs: Path, part: str, vocabulary: int, *, context: int, tokens: int, steps: int
) -> Path:
    from support.internals import Process, run_spec

    from engine import load_spec

    spec = {
        "engine": 1,
        "name": "evals",
        "seed": 3,
        "stages": {
            "corpus": {
                "prepare": {
                    "sources": [{"type": "python-library", "parts": [part]}],
                    "tokenizer": {"type": "bpe", "vocab_size": vocabulary},
                    "holdout": 0.05 if part == "topics" else 0.01,
                }
            },
            "base": {
                "train": {
                    "data": "corpus",
                    "model": {
                        "type": "llama",
                        "hidden_size": 64,
                        "layers": 2,
                        "heads": 2,
                        "context": context,
                    },
                    "objective": {"type": "next-token"},
                    # In so few steps it learns 0.6 nats more than AdamW.
                    "optimizer": {"type": "muon", "lr": 1e-2},
                    "batch": {"tokens": tokens},
                    "budget": f"{steps} steps",
                    "evaluate": [{"type": "perplexity", "limit": 8}],
                }
            },
        },
    }
    file = runs / "spec.yaml"
    file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    run_spec(load_spec(file), runs, Process(), as_json=True)
    return runs / "evals" / "base" / "final"
