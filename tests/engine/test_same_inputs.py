"""A train stage goes on only with what it began with."""

from __future__ import annotations

import json
import shutil

import pytest
from safetensors.torch import load_file, save_file

from engine import RunError


@pytest.fixture
def spec(tiny_spec, tmp_path, finished_run):
    """Questions and answers in a file, for a model in a folder."""
    shutil.copytree(finished_run / "base" / "final", tmp_path / "given")
    _write(tmp_path, "3.")
    tiny_spec["stages"] = {
        "tuned": {
            "train": {
                "data": {"type": "files", "paths": [str(tmp_path / "rows.jsonl")]},
                "model": {"type": "pretrained", "path": str(tmp_path / "given")},
                "objective": {"type": "sft", "packing": False},
                "batch": {"examples": 4, "sequence": 32},
                "budget": "1 steps",
            }
        }
    }
    return tiny_spec


def _write(folder, last):
    answers = [*(f"{n}." for n in range(7)), last]
    rows = [{"prompt": f"{n}?", "completion": a} for n, a in enumerate(answers)]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "rows.jsonl").write_text(lines, encoding="utf-8")


def _longer(spec):
    spec["stages"]["tuned"]["train"]["budget"] = "2 steps"
    return spec


def test_another_file_with_as_many_rows_is_refused(spec, run_here, tmp_path):
    """By what it holds, not by its time: put back, the stage goes on."""
    run_here(spec)
    _write(tmp_path, "4.")
    with pytest.raises(RunError, match=r"tuned: its data changed since.*--rerun tuned"):
        run_here(_longer(spec))
    _write(tmp_path, "3.")
    assert run_here(_longer(spec)).events("resumed")


def test_another_model_in_the_same_folder_is_refused(spec, run_here, tmp_path):
    """Its weights would come from the checkpoint, but a reference's or a LoRA's base would not."""
    run_here(spec)
    file = tmp_path / "given" / "model.safetensors"
    weights = load_file(file)
    weights["model.norm.weight"][0] += 0.5
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(RunError, match=r"tuned: the model in '.*given' changed since"):
        run_here(_longer(spec))
