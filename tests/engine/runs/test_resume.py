"""Promise 1: resume is exact, whenever and however often a run is killed."""

from __future__ import annotations

import pytest
from support.kills import killed


@pytest.fixture
def thorough_spec(tiny_spec, texts):
    """Everything that has state is in it: two sources, Muon, a ramp, an average, a spike guard."""
    sources = tiny_spec["stages"]["corpus"]["prepare"]["sources"]
    sources[0] |= {"paths": [f"{texts}/[0-3]*.txt"], "weight": 0.7}
    sources.append({"type": "files", "paths": [f"{texts}/[45]*.txt"], "weight": 0.3})
    train = tiny_spec["stages"]["base"]["train"]
    train |= {
        "optimizer": {"type": "muon", "lr": 3e-3, "schedule": {"type": "warmup-stable-decay"}},
        "batch": {"tokens": 128, "ramp": {"every": "1k tokens", "most": 512}},
        "budget": "24 steps",
        "ema": 0.9,
        "evaluate": [{"type": "perplexity", "every": "7 steps", "limit": 2}],
        "checkpoint": {"every": "2 steps", "keep": 2},
        # So strict that it skips steps and rolls back: what it remembers decides the weights.
        "callbacks": [{"type": "spike-guard", "factor": 1.1, "window": 8, "max_rollbacks": 50}],
    }
    return tiny_spec


def test_killed_at_random_moments_the_weights_are_bit_identical(
    thorough_spec, write_spec, warm, tmp_path
):
    """Six SIGKILLs: the same final weights, and no checkpoint that is not whole."""
    found = killed(warm, write_spec(thorough_spec), tmp_path / "runs", kills=6, seed=1)
    print(found)
    assert found["kills"] >= 6
    assert found["different"] == []
    assert found["damaged"] == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_two_hundred_kills(thorough_spec, write_spec, warm, tmp_path):
    """The same, thirty times as often."""
    found = killed(warm, write_spec(thorough_spec), tmp_path / "runs", kills=200, seed=2)
    print(found)
    assert found["kills"] >= 200
    assert found["inside_save"] > 0
    assert found["different"] == []
    assert found["damaged"] == []


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(
    "strategy",
    [
        {"type": "ddp"},
        *({"type": "mesh", name: 2} for name in ("data", "shard", "tensor", "pipeline", "context")),
        *({"type": "zero", "stage": stage} for stage in (1, 2, 3)),
    ],
    ids=str,
)
def test_kills_under_every_strategy(thorough_spec, write_spec, warm, tmp_path, strategy):
    """Two processes killed together, a dozen times, also inside a save."""
    train = thorough_spec["stages"]["base"]["train"]
    train["strategy"] = strategy
    train["optimizer"]["type"] = "adamw"  # some of them cut matrices
    found = killed(
        warm, write_spec(thorough_spec), tmp_path / "runs", kills=12, seed=3, processes=2
    )
    print(strategy, found)
    assert found["kills"] >= 12
    assert found["different"] == []
    assert found["damaged"] == []
