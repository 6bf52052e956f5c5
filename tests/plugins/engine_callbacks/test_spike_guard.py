"""Promise 4: a gradient spike or a non-finite loss does not reach the weights."""

from __future__ import annotations

import math
import random
from itertools import chain

import pytest
import torch
from engine_callbacks.config import SpikeGuard
from engine_callbacks.spike_guard import SpikeGuardCallback

from engine import RunError

_ROWS = 8  # of 32 tokens make the tiny spec's batch
_KINDS = {"hundredfold": 100.0, "nan": math.nan, "infinite": math.inf}


def _poison(**kinds_by_step: str) -> dict[int, float]:
    """One sample of each of these steps (``_7="nan"``); as long as none is left out."""
    return {_ROWS * int(step[1:]) - 5: _KINDS[kind] for step, kind in kinds_by_step.items()}


@pytest.fixture
def train(tiny_spec):
    """The train stage's part of the tiny spec: twelve steps, each with a checkpoint."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"budget": "12 steps", "evaluate": [], "checkpoint": {"every": "1 steps", "keep": 9}}
    return train


def _guard(**fields) -> dict:
    return {"type": "spike-guard", "window": 4, **fields}


def _skipped(run) -> list[int]:
    return [e["step"] for e in run.events("step") if e["skipped"]]


def test_poison_does_no_harm(tiny_spec, train, run_here, samples, tmp_path):
    """Spikes of every kind are skipped, three in a row rolled back with their data left out; the
    model is as good as without them, to 1 %. It is not where nothing guards it."""
    words = random.Random(0)
    (tmp_path / "texts").mkdir()
    for i in range(300):
        text = " ".join(words.choices("the cat sat on a mat and saw".split(), k=60))
        (tmp_path / "texts" / f"{i}.txt").write_text(text, encoding="utf-8")
    sources = [{"type": "files", "paths": [f"{tmp_path}/texts/*.txt"]}]
    tiny_spec["stages"]["corpus"]["prepare"]["sources"] = sources
    train |= {"budget": "80 steps", "checkpoint": {"every": "4 steps"}, "clip": None}
    train |= {"evaluate": [{"type": "perplexity"}]}
    schedule = {"type": "warmup-stable-decay", "decay": 0.5}
    # A long second moment remembers a spike to the end: unguarded, little is learnt after it.
    train["optimizer"] |= {"lr": 2.5e-3, "betas": [0.9, 0.999], "schedule": schedule}
    train["callbacks"] = [_guard(window=20)]

    def perplexity(run) -> float:
        return next(e["value"] for e in run.events("score") if e["metric"] == "perplexity")

    clean = perplexity(run_here(tiny_spec, runs="clean"))
    samples.taken.clear()
    samples.poison = _poison(_16="hundredfold", _21="nan", _25="infinite")
    samples.poison |= _poison(_31="hundredfold", _32="nan", _33="infinite")
    guarded = run_here(tiny_spec, runs="guarded")
    assert _skipped(guarded) == [16, 21, 25, 31, 32, 33]
    assert guarded.steps("step") == [*range(1, 34), *range(29, 81)]
    (back,) = guarded.events("rolled_back")
    assert back["step"] == 28
    assert "3 steps in a row were skipped" in back["reason"]
    assert perplexity(guarded) == pytest.approx(clean, rel=0.01)

    before, after = samples.taken[:33], samples.taken[33:]
    assert list(chain(*before)) == list(range(33 * _ROWS))
    assert after[:2] == before[28:30]  # good steps since the checkpoint are taken again
    assert list(chain(*after[2:])) == list(range(33 * _ROWS, 83 * _ROWS))  # 31 to 33 never are

    samples.taken.clear()
    train["callbacks"] = []
    assert perplexity(run_here(tiny_spec, runs="unguarded")) > 1.3 * clean


@pytest.mark.parametrize("breaks_before", [7, 9, 11])
def test_a_guard_goes_on_where_it_was(tiny_spec, train, run_here, samples, breaks_before):
    """Broken off before a spike, between two or after the roll-back: the same weights."""
    train["callbacks"] = [_guard()]
    samples.poison = _poison(_7="hundredfold", _8="hundredfold", _9="nan")
    whole = run_here(tiny_spec, runs="whole")
    samples.taken.clear()
    samples.power_fails_before = breaks_before
    with pytest.raises(samples.PowerFailure):
        run_here(tiny_spec, runs="broken")
    samples.power_fails_before = None
    broken = run_here(tiny_spec, runs="broken")
    assert broken.events("resumed")
    assert len(whole.events("rolled_back")) == len(broken.events("rolled_back")) == 1
    expected, weights = whole.weights(), broken.weights()
    assert all(torch.equal(weights[name], expected[name]) for name in expected)


@pytest.mark.covers("callback/spike-guard.factor")
@pytest.mark.parametrize(("factor", "skipped"), [(20, [9]), (200, [])])
def test_the_factor_says_what_a_spike_is(tiny_spec, train, run_here, samples, factor, skipped):
    """A hundredfold gradient is one by a factor of 20, not of 200."""
    train["callbacks"] = [_guard(factor=factor)]
    samples.poison = _poison(_9="hundredfold")
    assert _skipped(run_here(tiny_spec)) == skipped


@pytest.mark.covers("callback/spike-guard.patience")
@pytest.mark.parametrize(("patience", "rolled_back"), [(2, [6]), (4, [])])
def test_patience_ends_in_a_roll_back(tiny_spec, train, run_here, samples, patience, rolled_back):
    """To before the first of the steps that were skipped; one skipped less, and training goes on."""
    train["callbacks"] = [_guard(patience=patience)]
    samples.poison = _poison(_7="hundredfold", _8="nan", _10="nan")
    run = run_here(tiny_spec)
    assert [e["step"] for e in run.events("rolled_back")] == rolled_back
    assert run.steps("step")[-1] == 12


@pytest.mark.covers("callback/spike-guard.max_rollbacks")
def test_too_many_roll_backs_end_the_run(tiny_spec, train, run_here, samples):
    """And running it again gives it no more of them; raising the limit does."""
    train["callbacks"] = [_guard(patience=1, max_rollbacks=1)]
    samples.poison = _poison(_7="nan", _9="nan")
    for _ in range(2):
        with pytest.raises(RunError, match=r"rolled back 1 times.*lower the learning rate"):
            run_here(tiny_spec)
    train["callbacks"] = [_guard(patience=1, max_rollbacks=2)]
    assert run_here(tiny_spec).steps("step")[-1] == 12


@pytest.mark.covers("callback/spike-guard.window")
def test_the_limit_follows_the_last_good_norms():
    """There is none until half the window is known; then it is factor × their median."""
    guard = SpikeGuardCallback(SpikeGuard(window=4, factor=10))
    guard.stage_started("base", None, {"precision": "bf16"})
    limits = [guard.spike_limit]
    norms = [1.0, 2.0, 3.0, 100.0, 3.0, 5.0, 5.0, 5.0]
    for step, norm in enumerate(norms, 1):
        skipped = not norm < guard.spike_limit
        guard.step_finished({"step": step, "grad_norm": norm, "loss": 1.0, "skipped": skipped})
        limits.append(guard.spike_limit)
    assert limits == [math.inf, math.inf, 15, 20, 20, 25, 30, 40, 50]


def test_the_search_for_a_loss_scale_is_no_spike(tiny_spec, train, run_here, samples, monkeypatch):
    """fp16 overflows until its scale has fallen; a loss that is NaN counts in fp16 as well."""
    from engine_parallel import master_weights

    monkeypatch.setattr(master_weights, "_FP16_SCALE", 2.0**28)
    train |= {"precision": "fp16", "budget": "30 steps", "callbacks": [_guard()]}
    samples.poison = _poison(_20="nan", _21="nan", _22="nan")
    run = run_here(tiny_spec)
    skipped = _skipped(run)
    assert skipped[:4] == [1, 2, 3, 4]
    assert skipped[-3:] == [20, 21, 22]
    (back,) = run.events("rolled_back")
    assert back["step"] == 19
