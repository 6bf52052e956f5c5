"""What is timed to say how fast a model trains here."""

from __future__ import annotations

from dataclasses import replace

import pytest
from engine_plan.timed import probe
from engine_plan.timed.sample import Sample
from engine_plan.timed.speeds import _cut, training_speeds
from torch.utils.flop_counter import FlopCounterMode

from engine import ModelShape

SHAPE = ModelShape(3, 64, 4, 2, 160, 320, 256)


def _flops(run) -> float:
    with FlopCounterMode(display=False) as counter:
        run()
    return counter.get_total_flops()


def test_a_layer_computes_what_is_counted():
    """By torch's count: blocks of 128 queries meet half of all pairs and half a block more."""
    sample = Sample(SHAPE, 2, 512, "causal", "fp32")
    pairs, flops = 1 + 128 / 512, sample.flops
    assert _flops(probe.layer(sample, "cpu")) == pytest.approx(
        flops.weights + pairs * flops.attention, rel=0.01
    )
    assert _flops(probe.head(sample, "cpu")) == pytest.approx(flops.head, rel=0.01)


@pytest.mark.parametrize(("precision", "gated"), [("fp32", True), ("bf16", False)])
def test_every_kind_of_layer_can_be_timed(precision, gated, tmp_path, monkeypatch):
    """Experts as one of them; and it is remembered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    sample = Sample(
        replace(SHAPE, gated=gated, experts=4, experts_per_token=2), 2, 256, "causal", precision
    )
    speeds = training_speeds(sample)
    assert min(speeds.layers, speeds.head) > 1e6
    assert training_speeds(sample) == speeds


def test_what_would_take_long_is_timed_in_part():
    """Fewer rows, then shorter ones, then narrower layers with heads as wide."""
    whole = Sample(ModelShape(32, 4096, 32, 8, 14336, 128256, 8192), 4, 8192, "causal", "bf16")
    for most in (1e13, 1e11, 3e8):
        cut = _cut(whole, most, lambda s: s.flops.layers)
        assert cut.flops.layers <= most
        assert cut.flops.layers > most / 16
        assert cut.shape.head_width == 128
        assert cut.shape.heads % cut.shape.kv_heads == 0
    few = _cut(whole, 1e15, lambda s: s.flops.layers)
    assert (few.rows, few.sequence, few.shape) == (4, 8192, whole.shape)
