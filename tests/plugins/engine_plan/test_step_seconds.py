"""A step takes about as long as the plan says."""

from __future__ import annotations

import copy
import statistics
import time

import pytest
import torch
from engine_plan.forecast import forecasts
from engine_plan.machine import Machine

from engine import load_spec

SIZES = {
    "1M": {"hidden_size": 128, "layers": 4, "heads": 4},
    "3M": {"hidden_size": 256, "layers": 4, "heads": 8},
}
STEPS = 5
pytestmark = pytest.mark.usefixtures("on_a_cpu")


@pytest.fixture
def processor_time(monkeypatch, tmp_path):
    """Times on one core count what this process computes, whatever else the machine does; what is
    measured for a plan is measured anew."""
    monkeypatch.setattr(time, "perf_counter", time.process_time)
    monkeypatch.setattr("engine.hardware.measurements._waited", lambda: 0.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("processor_time")
def test_steps_take_as_long_as_planned(tiny_spec, write_spec, run_here):
    """Of two sizes in two precisions, to a factor of 1.5."""
    ratios = {}
    for precision in ("fp32", "bf16"):
        for size, fields in SIZES.items():
            spec = copy.deepcopy(tiny_spec)
            train = spec["stages"]["base"]["train"]
            train["model"] = {"type": "llama", "context": 128, **fields}
            train |= {"precision": precision, "compile": False, "budget": f"{STEPS} steps"}
            train |= {"batch": {"tokens": 1024}, "evaluate": []}
            situation = load_spec(write_spec(spec)).situation()
            planned = forecasts(situation, Machine.here(1))["base"].step_seconds
            run = run_here(spec, runs=f"{precision}-{size}")
            taken = [1024 / speed for speed in run.steps("tokens_per_second")[1:]]
            ratios[precision, size] = statistics.median(taken) / planned
            print(precision, size, planned, taken)
    print(ratios)
    assert all(1 / 1.5 < ratio < 1.5 for ratio in ratios.values()), ratios
