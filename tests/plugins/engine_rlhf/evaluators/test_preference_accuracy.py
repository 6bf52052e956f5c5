"""Evaluator `preference-accuracy`: accuracy, calibration and likelihood of held-out preferences."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
from engine_inference.language_model import SharedPrefixLM
from engine_rlhf.config.evaluators import PreferenceAccuracy
from engine_rlhf.evaluators.preference_accuracy import PreferenceAccuracyEvaluator

from engine import Preference, Response
from engine.testing import StandAloneContext, check_component


@dataclass(frozen=True)
class Pairs(StandAloneContext):
    """Holds out pairs, some with safety labels."""

    def held_out(self):
        for number, text in enumerate(self.documents[:12]):
            safe = [None, True, False][number % 3]
            words = text.split()
            yield Preference(
                id=f"pair-{number}",
                source="test",
                prompt=words[0],
                chosen=" ".join(words[1:4]),
                rejected=" ".join(words[4:9]),
                chosen_safe=safe,
                rejected_safe=False,
            )


@pytest.mark.parametrize("values", ["reward", "cost"])
def test_contract(values):
    check_component("evaluator", {"type": "preference-accuracy", "values": values}, Pairs())


def _scores(differences, **fields):
    evaluator = PreferenceAccuracyEvaluator(PreferenceAccuracy(**fields), Pairs())
    found = evaluator.summarise([{"difference": float(d)} for d in differences])
    return {score.metric: score for score in found}


def test_figures_by_hand():
    """Four pairs; a tie is half right."""
    found = _scores([2.0, -1.0, 0.5, 0.0])
    right = [1, 0, 1, 0.5]
    assert found["accuracy"].value == pytest.approx(np.mean(right))
    assert found["accuracy"].stderr == pytest.approx(np.std(right, ddof=1) / 2)
    nats = [math.log1p(math.exp(-d)) for d in (2.0, -1.0, 0.5, 0.0)]
    assert found["nll"].value == pytest.approx(np.mean(nats))
    assert found["nll"].stderr == pytest.approx(np.std(nats, ddof=1) / 2)
    # σ(2) = 0.881 and σ(1) = 0.731, σ(0.5) = 0.622, σ(0) = 0.5 are in four bins of ten.
    sure = [1 / (1 + math.exp(-abs(d))) for d in (2.0, -1.0, 0.5, 0.0)]
    gaps = [abs(r - s) for r, s in zip(right, sure, strict=True)]
    assert found["calibration_error"].value == pytest.approx(np.mean(gaps))
    assert found["calibration_error"].stderr is None
    assert not found["nll"].higher_is_better


@pytest.mark.covers("evaluator/preference-accuracy.bins")
def test_in_one_bin_errors_cancel():
    """One bin compares means: 0.75 right, and the mean confidence."""
    differences = [2.0, -1.0, 0.5, 1.5]
    sure = [1 / (1 + math.exp(-abs(d))) for d in differences]
    assert _scores(differences, bins=1)["calibration_error"].value == pytest.approx(
        abs(np.mean(sure) - 0.75)
    )
    assert _scores(differences)["calibration_error"].value > 0.2


def test_drawn_from_its_own_probabilities_it_is_calibrated():
    """20,000 pairs preferred by σ(Δ): the error is what chance leaves; twice as sure, it shows."""
    generator = np.random.default_rng(0)
    size = np.abs(generator.normal(0, 1.5, 20_000))
    right = generator.random(20_000) < 1 / (1 + np.exp(-size))
    differences = np.where(right, size, -size)
    assert _scores(differences)["calibration_error"].value < 0.015
    assert _scores(2 * differences)["calibration_error"].value > 0.05


@pytest.mark.covers("evaluator/preference-accuracy.values")
def test_a_cost_model_gives_the_chosen_answer_less():
    """Its signs are compared with the safety labels that there are."""
    items = list(PreferenceAccuracyEvaluator(PreferenceAccuracy(), Pairs()).items())
    pair = (Response(value=-1.0), Response(value=2.0))
    reward = PreferenceAccuracyEvaluator(PreferenceAccuracy(), Pairs())
    cost = PreferenceAccuracyEvaluator(PreferenceAccuracy(values="cost"), Pairs())
    assert reward.score(items[0], pair) == {"difference": -3.0}
    rows = [cost.score(item, pair) for item in items[:3]]
    assert [row["difference"] for row in rows] == [3.0] * 3
    assert [(row["right"], row["labelled"]) for row in rows] == [(1, 1), (2, 2), (1, 2)]
    found = {score.metric: score for score in cost.summarise(rows)}
    assert found["safety_accuracy"].value == pytest.approx((1 + 1 + 0.5) / 3)
    assert found["safety_accuracy"].n == 3


def test_normalised_values_are_scaled_back(bench):
    """Probabilities are of the values that were trained, whatever config.json scales them by."""
    evaluator = PreferenceAccuracyEvaluator(PreferenceAccuracy(), Pairs())
    model = bench.model(scalar=True)
    lm = SharedPrefixLM(model, bench.context.tokenizer())
    items = list(evaluator.items())

    def scores():
        rows = [evaluator.score(item, lm.answer(item.requests)) for item in items]
        return [score.value for score in evaluator.summarise(rows)]

    raw = scores()
    before = lm.answer(items[0].requests)[0].value
    model.config.value_mean, model.config.value_std = 3.0, 0.2
    assert lm.answer(items[0].requests)[0].value == pytest.approx((before - 3) / 0.2)
    assert scores() == pytest.approx(raw)


@pytest.mark.covers("evaluator/preference-accuracy.every", "evaluator/preference-accuracy.limit")
def test_during_training(stage, hh, run_here):
    """HH: every two steps of four, of ten held-out pairs."""
    spec = stage(
        {"type": "reward"},
        hh(100),
        holdout=0.3,
        evaluate=[{"type": "preference-accuracy", "every": "2 steps", "limit": 10}],
    )
    events = [e for e in run_here(spec).events("score") if e["stage"] == "learned"]
    assert [(e["step"], e["n"]) for e in events if e["metric"] == "accuracy"] == [(2, 10), (4, 10)]
