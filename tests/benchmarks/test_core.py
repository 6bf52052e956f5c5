"""What the core itself takes: per step, and to find any sample."""

from __future__ import annotations

import itertools
import json
import statistics
import time
from pathlib import Path

import pytest
import torch
import yaml
from engine_parallel.replicated import Replicated

from engine import Step
from engine.data.mixture import Mixture, MixtureSource

QUICKSTART = Path(__file__).parents[2] / "specs" / "quickstart.yaml"


@pytest.mark.benchmark
@pytest.mark.timeout(1200)
def test_the_core_adds_nothing(run_here, engine, write_spec, tmp_path, monkeypatch):
    """Promise 6: with a model that does no work, a step takes under 1 % of the quickstart's."""
    spec = yaml.safe_load(QUICKSTART.read_text(encoding="utf-8"))
    train = spec["stages"]["base"]["train"]
    train |= {"budget": "60 steps", "evaluate": [], "compile": True}
    told = engine(
        "run", write_spec(spec), "--runs", tmp_path, "--json", env={"OMP_NUM_THREADS": "2"}
    )
    events = [json.loads(line) for line in told.stdout.splitlines()]
    real = [e["time"] for e in events if e["event"] == "step"]
    train |= {"budget": "360 steps", "compile": False}
    idle = Step(torch.tensor(1.0), torch.tensor(False))
    monkeypatch.setattr(Replicated, "forward_backward", lambda *_: {"loss": torch.tensor(8.0)})
    monkeypatch.setattr(Replicated, "step", lambda *_: idle)
    empty = run_here(spec).steps("time")[60:]
    work, own = _median_gap(real[10:]), _median_gap(empty)
    print(f"\na step: {1000 * work:.1f} ms; the core's own part {1000 * own:.2f} ms", end="")
    print(f" = {100 * own / work:.2f} %")
    assert own < 0.01 * work


@pytest.mark.benchmark
def test_any_of_a_million_million_samples_is_found_at_once():
    """O(1), with a state of a few hundred bytes, whatever the size."""
    sources = [MixtureSource("a", 7 * 10**11, 0.7), MixtureSource("b", 3 * 10**11, 0.3)]
    mixture = Mixture(sources, seed=1)
    places = [int(i * 9.9e11 / 200) for i in range(200)]
    times = []
    for place in places:
        started = time.perf_counter()
        mixture.batch(place, 1)
        times.append(time.perf_counter() - started)
    state = len(json.dumps(mixture.state()))
    print(f"\nseek: median {1e3 * statistics.median(times):.3f} ms, ", end="")
    print(f"longest {1e3 * max(times):.3f} ms; state {state} bytes")
    assert statistics.median(times) < 0.05
    assert state < 2048


def _median_gap(times: list[float]) -> float:
    """Seconds between neighbouring steps: all of a step, logging included."""
    return statistics.median(b - a for a, b in itertools.pairwise(times))
