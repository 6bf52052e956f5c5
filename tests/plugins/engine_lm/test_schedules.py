"""Schedules equal their closed forms."""

from __future__ import annotations

import itertools
import math

import pytest
from engine_lm import schedules
from engine_lm.training_config import Constant, InverseSqrt, WarmupCosine, WarmupStableDecay
from hypothesis import given, strategies as st

from engine import Amount, Progress

steps = st.integers(1, 10_000)


def _at(step: int, budget: int = 10_000) -> Progress:
    return Progress(step, 100 * step, 0.0, 0.0, Amount(budget, "steps"))


@pytest.mark.covers("schedule/constant.warmup")
@given(steps)
def test_constant_rises_linearly_and_stays(step):
    """t / warmup, then 1."""
    factor = schedules.build_constant(Constant(warmup=Amount(50, "steps")), None)
    assert factor(_at(step)) == pytest.approx(min(step / 50, 1))


@pytest.mark.covers("schedule/warmup-cosine.warmup", "schedule/warmup-cosine.final")
@given(steps)
def test_cosine_falls_along_half_a_period(step):
    """final + (1 − final) · (1 + cos(π (t − warmup) / (budget − warmup))) / 2."""
    config = WarmupCosine(warmup=Amount(200, "steps"), final=0.2)
    through = (step - 200) / (10_000 - 200)
    expected = step / 200 if step < 200 else 0.2 + 0.8 * (1 + math.cos(math.pi * through)) / 2
    assert schedules.build_cosine(config, None)(_at(step)) == pytest.approx(expected)


@pytest.mark.covers(
    "schedule/warmup-stable-decay.warmup",
    "schedule/warmup-stable-decay.decay",
    "schedule/warmup-stable-decay.final",
)
@given(steps)
def test_stable_decay_rises_stays_and_falls(step):
    """The fall is linear over the last ``decay`` of the budget, down to ``final``."""
    config = WarmupStableDecay(warmup=Amount(0.02, "share"), decay=0.25, final=0.1)
    left = (10_000 - step) / 10_000
    expected = min(step / 200, 1, 0.1 + 0.9 * left / 0.25)
    assert schedules.build_stable_decay(config, None)(_at(step)) == pytest.approx(expected)


@pytest.mark.covers("schedule/inverse-sqrt.warmup")
@given(steps)
def test_inverse_sqrt_is_vaswanis(step):
    """min(t / warmup, sqrt(warmup / t)), the peak being reached at the end of the warm-up."""
    config = InverseSqrt(warmup=Amount(40_000, "tokens"))  # 400 steps
    factor = schedules.build_inverse_sqrt(config, None)
    assert factor(_at(step)) == pytest.approx(min(step / 400, math.sqrt(400 / step)))


@pytest.mark.parametrize(
    "factor",
    [
        schedules.build_constant(Constant(), None),
        schedules.build_cosine(WarmupCosine(), None),
        schedules.build_stable_decay(WarmupStableDecay(), None),
        schedules.build_inverse_sqrt(InverseSqrt(), None),
    ],
)
def test_no_step_is_lost_and_nothing_jumps(factor):
    """The first rate is not 0, none is above 1, and neighbours differ by a step of the warm-up."""
    factors = [factor(_at(step)) for step in range(10_001)]
    assert 0 < factors[0] < 0.02
    assert max(factors) == pytest.approx(1)
    assert max(abs(b - a) for a, b in itertools.pairwise(factors)) <= 0.0101


def test_beyond_the_budget_the_last_rate_stays():
    """A run that goes on longer than its budget by part of a step must not rise again."""
    decayed = schedules.build_stable_decay(WarmupStableDecay(final=0.1), None)
    cosine = schedules.build_cosine(WarmupCosine(final=0.1), None)
    assert decayed(_at(10_050)) == cosine(_at(10_050)) == pytest.approx(0.1)


def test_without_a_warm_up_the_peak_comes_first():
    """An amount of 0 means none."""
    none = Amount(0, "steps")
    assert schedules.build_constant(Constant(warmup=none), None)(_at(0)) == 1
    assert schedules.build_cosine(WarmupCosine(warmup=none), None)(_at(0)) == 1
