"""The law that predicts larger budgets is believed, and points that tell no law are refused."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from engine_scaling.laws.believed import believe, ranked
from engine_scaling.laws.bootstrap import draws
from engine_scaling.laws.constants import constants_of
from engine_scaling.laws.influence import influences
from engine_scaling.laws.leaps import Leaps, clearly_worse
from engine_scaling.points.point import Points
from support.made_ladders import LAW, SMALL, as_points, ladder

from engine import SpecError


def embedded(points, width=40.0):
    """The points with an embedding beside what they have, which is the body then."""
    return [
        replace(p, body=p.parameters, parameters=p.parameters + width * p.parameters**0.6)
        for p in points
    ]


def test_exact_losses_give_the_law_and_its_optimum(exact):
    """To one part in a thousand, at budgets that are ten times larger, too."""
    for name in ("E", "A", "alpha", "B", "beta"):
        assert getattr(exact.law.best, name) == pytest.approx(getattr(LAW, name), rel=1e-3)
    flops = 10 * exact.law.flops[1]
    size, tokens, loss = exact.optimum(flops)
    assert (size.value, tokens.value) == pytest.approx(LAW.optimum(flops), rel=1e-3)
    assert loss.value == pytest.approx(LAW.loss(*LAW.optimum(flops)), rel=1e-5)
    assert exact.variants[0].predicts < 1e-5
    assert influences(exact) == []


def test_the_count_of_parameters_that_predicts_is_believed():
    """Where losses follow the body, N counts the body, although all parameters fit well in-sample; the
    best model is told with its embedding."""
    points = embedded(ladder(budgets=4))
    belief = believe(as_points(points), bootstraps=60)
    assert belief.law.best.counted == "body"
    best = belief.variants[0]
    others = [v for v in belief.variants if v.law.counted == "all"]
    assert min(v.predicts for v in others) > 10 * best.predicts
    flops = belief.law.flops[1]
    size = belief.optimum(flops)[0].value
    (body,) = belief.family.body_of(np.array([size]))
    assert size == pytest.approx(body + 40 * body**0.6, rel=1e-3)
    # The runs' FLOPs are 6·N·D of the body, so that the law's own optimum is the family's.
    assert body == pytest.approx(LAW.optimum(flops)[0], rel=1e-3)


def test_every_variant_is_shown_with_its_errors(noisy):
    """In-sample and of leaps of 4 and 16 times, the believed one first, which is the best. Leaps to the
    third and the fourth budget predict their ten runs, if no rule leaves some out."""
    assert all(v.points > 0 and v.in_sample > 0 for v in noisy.variants)
    sizes = [v.predicts for v in noisy.variants]
    assert sizes == sorted(sizes)
    assert len({v.name for v in noisy.variants}) == len(noisy.variants) >= 6
    assert not noisy.variants[0].worse
    assert any(v.worse for v in noisy.variants)
    for variant in noisy.variants:
        factors = {length: leap.factor for length, leap in variant.leaps.items()}
        assert factors == {"near": pytest.approx(4), "far": pytest.approx(16)}
        assert variant.tested
        assert variant.predicted == noisy.variants[0].predicted


def test_an_interval_spans_the_variants(noisy):
    """From the lowest end of any variant's interval to the highest, with the noise of a run."""
    flops = 10 * noisy.law.flops[1]
    size, tokens, loss = noisy.optimum(flops)
    kept = [v for v in noisy.variants if not v.worse]
    assert sum(noisy.law.groups) == len(noisy.law.draws) >= 300
    assert len(noisy.law.groups) == len(kept)
    for variant in kept:
        assert loss.low <= variant.law.loss(size.value, tokens.value) <= loss.high
    assert loss.high - loss.value >= 1.96 * noisy.law.noise * loss.value
    assert size.low < size.value < size.high


def test_the_same_seed_gives_the_same_law():
    """To the last draw."""
    points = as_points(ladder(noise=0.01, seed=2))
    assert believe(points, bootstraps=40).law == believe(points, bootstraps=40).law


def test_without_a_budget_to_predict_nothing_is_worse():
    """Two budgets leave none to predict, so that all variants take part in the interval."""
    belief = believe(as_points(ladder(budgets=2, sizes=6, noise=0.003)), bootstraps=60)
    assert not belief.tested
    assert not any(v.worse for v in belief.variants)
    assert not any(v.leaps or v.tested or v.predicted for v in belief.variants)


def test_clearly_worse_is_told_by_many_targets_alone():
    """The same ratio of errors is clear on eight targets, and not on four."""
    for count, clear in ((4, False), (8, True)):
        target, factor = np.arange(count), np.full(count, 4)
        best = Leaps(np.linspace(0.001, 0.002, count), target, factor)
        assert clearly_worse(replace(best, errors=-3 * best.errors), best) == clear
        assert not clearly_worse(best, best)


def test_a_variant_with_too_few_runs_is_not_tested():
    """It makes no leap that the others make, which says nothing of its errors; it takes no part in the
    intervals."""
    points = ladder(SMALL, budgets=4, noise=0.003, seed=1)
    points = [replace(p, steps=100 if i < 10 else 1000) for i, p in enumerate(points)]
    belief = believe(as_points(points), bootstraps=60)
    few = [v for v in belief.variants if "200 steps" in v.name]
    assert few
    assert not any(v.tested or v.worse for v in few)
    assert belief.variants[0].tested
    part = [v for v in belief.variants if v.tested and not v.worse]
    assert len(belief.law.groups) == len(part)


def test_constants_that_cannot_be_told(noisy, exact):
    """The exponents of a noisy ladder are not told apart where their difference may be zero; those of
    an exact one are told, each with an interval."""
    told = {c.name: c for c in constants_of(exact)}
    assert told["α"].told
    assert told["E"].told
    assert told["α"].span.value == pytest.approx(0.3, rel=1e-3)
    noisy_ones = {c.name: c for c in constants_of(noisy)}
    assert not noisy_ones["α − β"].told
    for constant in noisy_ones.values():
        assert constant.span.low < constant.span.high


def test_losses_of_runs_that_the_law_leaves_out_are_resampled():
    """Around themselves, with the noise of the others: other methods use these runs."""
    points = ladder(SMALL, noise=0.003, seed=4)
    points[19] = replace(points[19], loss=points[19].loss * 1.05)
    belief = believe(as_points(points), bootstraps=40)
    kept = belief.chosen.kept(belief.table)
    assert not kept.all()
    _, losses = draws(belief.chosen, belief.table, 400, np.random.default_rng(0))
    spread = losses.std(0)
    assert spread[~kept] == pytest.approx(spread[kept].mean(), rel=0.2)
    assert losses[:, ~kept].mean(0) == pytest.approx(belief.table.z[~kept], abs=1e-3)


def test_differences_by_rounding_decide_nothing():
    """Of variants that predict alike the plainest is believed, which leaves no runs out."""
    target, factor = np.arange(6), np.full(6, 4)
    plain, alike, worse = (Leaps(np.full(6, size), target, factor) for size in (3e-7, 0.0, 1e-3))
    assert ranked([worse, plain, alike]) == [1, 2, 0]
    assert ranked([Leaps(np.zeros(3), target[:3], factor[:3]), worse]) == [1, 0]


def test_repeated_data_counts_as_its_effective_tokens():
    """R* is fitted where enough runs repeat their data, and else the published one is taken."""
    from engine import effective_tokens

    points = []
    for i, point in enumerate(ladder(budgets=4, sizes=6)):
        unique = point.tokens / (1, 3, 8, 20)[i % 4]
        worth = effective_tokens(unique, point.tokens, 12.0)
        loss = LAW.loss(point.parameters, worth)
        points.append(replace(point, unique=unique, loss=loss))
    whole = believe(as_points(points), bootstraps=40)
    found = whole.repeats
    assert found.fitted
    assert whole.law.repeats == found.value.value
    assert found.value.value == pytest.approx(12.0, rel=0.02)
    few = [replace(p, unique=p.tokens) for p in points[:-1]]
    few = [replace(p, loss=LAW.loss(p.parameters, p.tokens)) for p in few]
    belief = believe(as_points([*few, points[-1]]), bootstraps=40)
    assert not belief.repeats.fitted
    assert belief.repeats.value.value == 15.387756


def same(points, name, value):
    return [replace(p, **{name: value}) for p in points]


@pytest.mark.parametrize(
    ("points", "told"),
    [
        ([], "0 finished trainings are too few for a law"),
        (ladder(budgets=2, sizes=3), "6 finished trainings are too few"),
        (ladder(budgets=1, sizes=9), "have one budget"),
        (same(ladder(), "parameters", 1e6), "have one size"),
        (same(ladder(), "tokens", 1e9), "see the same tokens"),
        ([replace(p, tokens=20 * p.parameters) for p in ladder()], "same tokens per parameter"),
    ],
    ids=["none", "too few", "one budget", "one size", "one length", "one ratio"],
)
def test_points_that_are_too_much_alike(points, told):
    """Are refused with what is missing and how to mend it."""
    with pytest.raises(SpecError, match=told) as refused:
        believe(as_points(points))
    assert refused.value.hint


def test_what_was_left_out_is_named_where_too_few_are_left():
    """With the reasons."""
    with pytest.raises(SpecError, match="left out: a/base: it diverged"):
        believe(Points((), left_out=(("a/base", "it diverged"),)))


def test_points_on_one_side_of_the_optimum():
    """Are refused with the side."""
    small = [p for p in ladder(budgets=4, sizes=17, spread=16) if "size" in p.name]
    small = [p for p in small if p.parameters < 0.6 * LAW.optimum(p.flops)[0]]
    with pytest.raises(SpecError, match="too small for their budgets"):
        believe(as_points(small), bootstraps=20)


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (lambda p: 3.0, "20 trainings are the same within 0.00%"),
        (lambda p: 3 + 1e-4 * math.log10(p.flops), "the same within 0.0"),
        (lambda p: p.flops**0.05, "rise with parameters and tokens"),
        (lambda p: (p.parameters * p.tokens**2) ** 0.02, "rise with parameters and tokens"),
        (lambda p: p.parameters**0.1 * (1 + 100 * p.tokens**-0.3), "rise with parameters, with"),
        (lambda p: p.tokens**0.1 * (1 + 100 * p.parameters**-0.3), "rise with tokens, with"),
    ],
    ids=["same", "nearly the same", "rising", "rising with both", "with size", "with data"],
)
def test_losses_that_do_not_fall(loss, told):
    """Are refused with what they do."""
    points = [replace(p, loss=loss(p)) for p in ladder()]
    with pytest.raises(SpecError, match=told) as refused:
        believe(as_points(points), bootstraps=20)
    assert "learning rate" in refused.value.hint


def test_points_that_no_law_fits():
    """Are refused with the size of the errors."""
    random = np.random.default_rng(0)
    points = [replace(p, loss=float(random.uniform(1, 9))) for p in ladder()]
    with pytest.raises(SpecError, match="no law fits these points"):
        believe(as_points(points), bootstraps=20)
