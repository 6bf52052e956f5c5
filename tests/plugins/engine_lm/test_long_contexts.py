"""A model of a long context is trained, and planned, with rows of a sensible length."""

from __future__ import annotations

import json
import shutil

import pytest
from support.internals import manifest
from support.model_folders import set_config as _config

from engine import RunError, load_spec


def test_a_long_context_gives_rows_of_a_sensible_length(folder, tiny_spec, run_here, tmp_path):
    """Said once, recorded, kept where it is resumed, and no longer than a batch."""
    _config(folder, max_position_embeddings=131072)
    rows = tmp_path / "rows.jsonl"
    rows.write_text(
        "".join(
            json.dumps({"prompt": f"{n}?", "completion": f"It is {n}."}) + "\n" for n in range(99)
        )
    )
    stages = tiny_spec["stages"]
    train = {
        "data": {"type": "files", "paths": [str(rows)], "records": "completion"},
        "model": {"type": "pretrained", "path": str(folder)},
        "objective": "sft",
        "budget": "1 steps",
        "batch": {"tokens": 256},
    }
    stages.pop("corpus")
    stages["base"] = {"train": train}
    run = run_here(tiny_spec)
    (chosen,) = run.events("rows_chosen")
    assert (chosen["sequence"], chosen["context"]) == (256, 131072)
    recorded = run.folder / "base" / "stage.json"
    record = manifest.unsealed(recorded.read_text())
    assert record["choices"]["sequence"] == 256
    record["choices"]["sequence"] = 128
    recorded.write_text(manifest.sealed(record))
    shutil.rmtree(run.folder / "base" / "checkpoints")
    train["budget"] = "2 steps"
    assert run_here(tiny_spec).events("rows_chosen")[-1]["sequence"] == 128
    train["batch"] = {"examples": 2}
    with pytest.raises(RunError, match=r"rows of at most 4096 tokens.*a shorter `batch\.sequence`"):
        run_here({**tiny_spec, "name": "short"})


def test_a_plan_reckons_with_the_same_rows(folder, tiny_spec, write_spec):
    """And not with whole contexts."""
    from engine_plan.forecast import forecast
    from engine_plan.machine import Machine

    _config(folder, max_position_embeddings=131072)
    tiny_spec["stages"]["base"]["train"] |= {
        "model": {"type": "pretrained", "path": str(folder)},
        "batch": {},
    }
    found = forecast(load_spec(write_spec(tiny_spec)).situation(), "base", Machine.here(1))
    assert found.work.sequence == 4096
