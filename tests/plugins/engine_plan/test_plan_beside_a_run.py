"""What is planned of disk and FLOPs is what a finished run has taken."""

from __future__ import annotations

import json

import pytest
from engine_plan.forecast import forecasts
from engine_plan.machine import Machine

from engine import load_spec

pytestmark = pytest.mark.usefixtures("on_a_cpu")


def test_the_disk_is_what_a_run_takes(tiny_spec, write_spec, finished_run):
    """The model to a hundredth, a checkpoint and torch's header for each of its tensors, under 2 kB."""
    spec = write_spec(tiny_spec)
    found = forecasts(load_spec(spec).situation(), Machine("cpu", "", 1e9))["base"]
    model = (finished_run / "base" / "final" / "model.safetensors").stat().st_size
    kept = [*(finished_run / "base" / "checkpoints").glob("step-*")]
    taken = [sum(f.stat().st_size for f in k.rglob("*.distcp")) for k in kept]
    assert model == pytest.approx(4 * found.parameters, rel=0.02)
    one = (found.disk - 4 * found.parameters) / (2 + 1 + 1)  # kept, on its way, and the best
    tensors = 4 * (2 + 9 * 2)  # weight, two moments and a counter, of two layers and what is around
    assert all(one < size < one + 2000 * tensors for size in taken)


def test_the_log_counts_as_the_plan_does(tiny_spec, write_spec, finished_run):
    """FLOPs of the whole training, embeddings left out."""
    lines = (finished_run / "events.jsonl").read_text(encoding="utf-8").splitlines()
    (told,) = [e for e in map(json.loads, lines) if e["event"] == "training"]
    found = forecasts(load_spec(write_spec(tiny_spec)).situation(), Machine("cpu", "", 1e9))["base"]
    assert told["flops"] == told["executed_flops"] == pytest.approx(found.flops)
    assert told["flops_from"] == "sizes"
