"""One flipped byte in any file of a run's folder is named, or changes nothing that comes of the run."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from engine.errors import EngineError
from engine.processes.process import Process
from engine.runs.session import run_spec
from engine.spec.loading import load_spec

Results = dict[str, Any]


@pytest.fixture(scope="module")
def more(finished_run, tmp_path_factory) -> Path:
    """A spec that reads all of the finished run: it scores its model, and then trains on."""
    spec = yaml.safe_load((finished_run / "spec.yaml").read_text())
    scores = {"models": ["base"], "data": "corpus", "evaluators": ["perplexity"]}
    spec["stages"]["scores"] = {"evaluate": scores}
    file = tmp_path_factory.mktemp("more") / "spec.yaml"
    file.write_text(yaml.safe_dump(spec, sort_keys=False))
    return file


def _results(more: Path, runs: Path) -> Results:
    """What comes of the run: scores, and weights after two more steps."""
    run_spec(load_spec(more), runs, Process(), as_json=True)
    longer = ["stages.base.train.budget=8 steps"]
    run_spec(load_spec(more, overrides=longer), runs, Process(), as_json=True, only="base")
    found = {}
    for stage in ("base", "scores"):
        record = json.loads((runs / "tiny" / stage / "stage.json").read_text())
        found[stage] = record["summary"]["scores"]
    found["weights"] = (runs / "tiny" / "base" / "final" / "model.safetensors").read_bytes()
    return found


@pytest.fixture
def flip(finished_run, more, tmp_path, capsys) -> Callable[[Path, random.Random], str | None]:
    """What was said of a flipped byte in a file; None where nothing came of it."""
    runs = tmp_path / "runs"

    def copied() -> Path:
        shutil.rmtree(runs, ignore_errors=True)
        shutil.copytree(finished_run, runs / "tiny")
        return runs / "tiny"

    copied()
    expected = _results(more, runs)

    def flipped(file: Path, chance: random.Random) -> str | None:
        here = copied() / file
        raw = bytearray(here.read_bytes())
        at = chance.randrange(len(raw))
        raw[at] ^= 1 << chance.randrange(8)
        here.write_bytes(raw)
        told = f"{file}, byte {at}"
        try:
            found = _results(more, runs)
            said = None
        except EngineError as error:
            found, said = expected, str(error)
        finally:
            capsys.readouterr()
        assert said is None or str(here) in said, f"{told}: {said}"
        assert found == expected, told
        return said

    return flipped


def _files(run: Path) -> list[Path]:
    found = (path for path in sorted(run.rglob("*")) if path.is_file() and path.stat().st_size)
    return [path.relative_to(run) for path in found]


def test_a_flipped_byte_is_named_or_means_nothing(flip, finished_run):
    """In a sample, the same always: of a corpus, of a checkpoint, and how a stage stands."""
    chance = random.Random(17)
    sample = ["corpus/shards/0/00000.bin", "base/stage.json", "corpus/manifest.json"]
    (last,) = finished_run.glob("base/checkpoints/step-*6/manifest.json")
    told = [flip(Path(name), chance) for name in [*sample, last.relative_to(finished_run)]]
    assert all(told)


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(5))
def test_a_flipped_byte_in_every_file(flip, finished_run, seed):
    """One file after the other; a part for each seed."""
    chance, wrong, named = random.Random(seed), [], 0
    for file in _files(finished_run):
        try:
            named += flip(file, chance) is not None
        except Exception as error:
            wrong.append(f"{file}: {type(error).__name__}: {error}")
    print(f"seed {seed}: {len(_files(finished_run))} files, {named} named, {len(wrong)} wrong")
    assert not wrong, "\n".join(wrong)
