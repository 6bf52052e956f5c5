"""The budgets of a ladder and the sizes of its models."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from engine_scaling.ladder.budgets import (
    budgets_of,
    chosen_budgets,
    fitted_seconds,
    held_out_ahead,
    largest_budget,
)
from engine_scaling.ladder.models import Template
from engine_scaling.ladder.predictions import HeldOut
from engine_scaling.ladder.rungs import Ladder, middle
from engine_scaling.ladder.speed import Speed

from engine import PUBLISHED_LAWS, ScalingLaw, SpecError, load_spec

SPEED = Speed(step_seconds=0.01, flops_per_second=2e10, fixed_seconds=5.0, scoring=1e-6)


@pytest.fixture(scope="module")
def template() -> Template:
    """That of the ready spec."""
    from pathlib import Path

    return Template.of(load_spec(Path(__file__).parents[4] / "specs" / "ladder.yaml"))


@pytest.fixture
def ladder(template) -> Ladder:
    """A ladder with text enough."""
    return Ladder(template, 35e6, 0.5)


def test_a_model_grows_in_width_alone(template):
    """Layers and the width of a head stay; what the spec sets beside the width grows with it."""
    small, own, wide = (template.size(width) for width in (32, 64, 256))
    assert small.changes == {"hidden_size": 32, "heads": 4, "intermediate_size": 96}
    assert wide.changes == {"hidden_size": 256, "heads": 32, "intermediate_size": 768}
    assert own.parameters == 1024 * 64 + 2 * (4 * 64 * 64 + 3 * 64 * 192 + 2 * 64) + 64
    assert own.parameters - own.body == 1024 * 64
    assert (small.lr, own.lr, wide.lr) == (0.01273, 0.009, 0.0045)
    assert template.size(256, 0.0).lr == 0.009


def test_the_nearest_width_is_found(template):
    """In the logarithm of the parameters, and down to a single head."""
    for width in (8, 24, 64, 512):
        assert template.nearest(template.size(width).parameters * 1.005, 0.5).width == width
    assert template.nearest(1.0, 0.5).width == 8


def test_budgets_are_a_factor_of_four_apart():
    """From the smallest on."""
    assert budgets_of(64.0, 4) == [1.0, 4.0, 16.0, 64.0]


def test_sizes_lie_on_both_sides_of_the_middle(ladder):
    """As many as asked for, a factor of 2.5 each way, each with its budget in whole steps."""
    best = ladder.template.size(64).parameters
    rungs = ladder.rungs(1e12, best, 5)
    sizes = [rung.size.parameters for rung in rungs]
    assert len(set(sizes)) == 5
    assert sizes[2] == best
    assert 2 < best / sizes[0] < 3.2
    assert 2 < sizes[-1] / best < 3.2
    for rung in rungs:
        assert rung.steps * 1024 * rung.size.token_flops == pytest.approx(1e12, rel=0.01)


def test_runs_with_few_steps_or_repeated_data_are_left_out(ladder):
    """Each is named with its figures."""
    assert ladder.rung(1e9, ladder.template.size(64)) is None
    assert ladder.rung(1e14, ladder.template.size(8)) is None
    assert ladder.skipped["c1e09-w64"] == "1 steps, fewer than 100"
    assert "more than the 35,000,000 that are there" in ladder.skipped["c1e14-w8"]


@pytest.mark.parametrize(("edge", "wider"), [(0, False), (4, True)])
def test_one_more_size_is_trained_where_the_best_is_at_an_edge(ladder, edge, wider):
    """Beyond that edge, and none where the best lies inside."""
    rungs = ladder.rungs(1e12, ladder.template.size(64).parameters, 5)
    losses = {rung.name: 3 + abs(i - edge) * 0.1 for i, rung in enumerate(rungs)}
    more = ladder.beyond(rungs, losses)
    assert more is not None
    assert (
        more.size.width > rungs[-1].size.width if wider else more.size.width < rungs[0].size.width
    )
    inside = {rung.name: 3 + abs(i - 2) * 0.1 for i, rung in enumerate(rungs)}
    assert ladder.beyond(rungs, inside) is None


def test_the_first_middle_is_a_published_law_s(ladder):
    """Without a run there is nothing else to go by."""
    assert middle(1e12, ()) == PUBLISHED_LAWS["Hoffmann et al. 2022"].optimum(1e12)[0]


def test_later_middles_follow_what_was_measured(ladder):
    """Losses along parabolas whose lowest points grow as C^0.4 give the next point."""
    done = []
    for budget in (1e11, 4e11, 1.6e12):
        best = 5e4 * (budget / 1e11) ** 0.4
        for rung in ladder.rungs(budget, best, 5):
            off = math.log(rung.size.parameters / best)
            done.append((rung, 3 + 0.05 * off**2))
    assert middle(6.4e12, done) == pytest.approx(5e4 * 64**0.4, rel=1e-6)
    one = [(rung, loss) for rung, loss in done if rung.budget == 1e11]
    assert middle(4e11, one) == pytest.approx(5e4 * 4**0.5, rel=1e-6)


def test_a_wild_parabola_does_not_lead_the_next_budget_astray(ladder):
    """The exponent stays in the range of published ones."""
    done = [
        (replace(rung, budget=budget), 3 + 0.05 * math.log(rung.size.parameters / best) ** 2)
        for budget, best in ((1e11, 4e4), (4e11, 1e6))
        for rung in ladder.rungs(1e12, 2e5, 5)
    ]
    lows = [middle(b * 4, [one for one in done if one[0].budget == b]) / 2 for b in (1e11, 4e11)]
    assert middle(1.6e12, done) == pytest.approx(lows[1] * 4**0.7, rel=1e-6)


def test_the_fitted_runs_take_about_the_time_that_is_asked_for(template):
    """All sizes at all budgets, by the measured speed."""
    largest = largest_budget(template, SPEED, 900.0, 4, 5)
    ladder = Ladder(template, math.inf, 0.0, least_steps=0)
    took = sum(
        SPEED.seconds(rung.size, rung.steps, 1024)
        for budget in budgets_of(largest, 4)
        for rung in ladder.rungs(budget, middle(budget, ()), 5)
    )
    assert took == pytest.approx(900, rel=0.02)
    repeated = fitted_seconds(ladder, SPEED, budgets_of(largest, 4), 5, repeated=2)
    assert 10 < repeated - took < 60


def test_a_budget_that_is_too_small_is_told_with_one_that_is_enough(ladder):
    """The time that is told is accepted."""
    with pytest.raises(SpecError, match=r"fewer than 3 sizes .* give --budget \d+m") as error:
        chosen_budgets(ladder, SPEED, 300.0, None, 4, 5)
    minutes = float(str(error.value.hint).split("--budget ")[1].split("m")[0])
    assert len(chosen_budgets(ladder, SPEED, 60 * minutes, None, 4, 5)) == 4


def test_held_out_runs_that_cannot_be_made_are_known_before_the_fitted_ones(ladder):
    """Too wide for their steps, or more tokens than there are."""
    wide, long = (HeldOut.parse(one) for one in ("2x20", "2000"))
    (_, near), (_, few), (_, repeated) = held_out_ahead(ladder, 1e12, (HeldOut(4), wide, long))
    assert near.budget == 4e12
    assert "fewer than 100" in few
    assert "more than the 35,000,000" in repeated
    assert not ladder.skipped


def test_a_best_size_at_the_edge_is_told_where_no_further_one_can_be_trained(ladder):
    """There is none narrower than a head, and a wider one may have too few steps."""
    for width, best, why in ((8, 0, "narrowest"), (64, 2, "could not be trained")):
        sizes = [ladder.template.size(width + 8 * i) for i in range(3)]
        budget = ladder.template.size(80).token_flops * 1024 * 102
        rungs = [rung for size in sizes if (rung := ladder.rung(budget, size))]
        losses = {rung.name: 3.0 + abs(i - best) for i, rung in enumerate(rungs)}
        assert ladder.beyond(rungs, losses) is None
        assert why in ladder.edges[rungs[best].name]


@pytest.mark.parametrize("counted", ["all", "body"])
def test_the_best_model_for_a_budget_is_the_law_s(ladder, counted):
    """Of the widths there are, that with the least loss after the tokens that the budget pays for."""
    law = ScalingLaw(1.0, 50.0, 0.35, 400.0, 0.3, counted)
    best = ladder.best(1e13, law, widest=128)

    def loss(width: int) -> float:
        size = ladder.template.size(width)
        n = size.parameters if counted == "all" else size.body
        return law.loss(n, 1e13 / size.token_flops)

    assert 8 < best.width < 1024
    assert best.width == min(range(8, 1025, 8), key=loss)
    assert np.isfinite(loss(best.width))
