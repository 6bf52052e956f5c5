"""Faulty schedules."""

from __future__ import annotations

import random
import time

from support.faults.fault import Planted

from engine import Amount, Config, Progress

BUDGETS = (Amount(100, "steps"), Amount(1e5, "tokens"), Amount(2, "epochs"), Amount(50, "seconds"))


class Ramp(Config):
    """Up for a tenth of the budget, then down."""


planted = Planted("schedule", Ramp)


@planted.right
def ramp(config, context):
    return lambda progress: _ramp(progress.reached(progress.budget))


def _ramp(done):
    return min(done / 0.1, 1.1 - done) if done < 1 else 0.1


def _at(step, budget=BUDGETS[0]):
    return Progress(step, step * 1000, step / 50, step / 2, budget)


def rates(make):
    """A run's factors, by the unit of its budget."""
    return [[factor(_at(step, b)) for step in range(120)] for b in BUDGETS for factor in [make()]]


def resumed(make):
    """Factors of a run that was killed after step 60."""
    factor = make()
    return [factor(_at(step)) for step in range(60, 100)]


def rolled_back(make):
    """Factors of a run that goes back from step 60 to step 50."""
    factor = make()
    return [factor(_at(step)) for step in (*range(60), *range(50, 100))]


@planted.fault(resumed, "the same progress always has the same factor")
def counts_its_calls(config, context):
    """It counts how often it is asked, in place of steps."""
    calls = iter(range(10**6))
    return lambda progress: _ramp(min(next(calls) / 100, 1))


@planted.fault(rates, "between 0 and 1")
def negative_at_the_end(config, context):
    """It falls below 0 where a budget is overrun."""
    return lambda progress: 1 - progress.reached(progress.budget)


@planted.fault(rates, "the peak, 1, is reached")
def rate_for_factor(config, context):
    """It gives a learning rate, not a factor on it."""
    right = ramp(config, context)
    return lambda progress: 3e-4 * right(progress)


@planted.fault(rates, "between 0 and 1")
def percent(config, context):
    """It gives percent."""
    right = ramp(config, context)
    return lambda progress: 100 * right(progress)


@planted.fault(rates, "the peak, 1, is reached within 1000000 tokens")
def steps_for_any_unit(config, context):
    """It divides steps by a budget that may be in tokens."""
    return lambda progress: _ramp(min(progress.step / progress.budget.value, 1))


@planted.fault(rates, "use progress.reached")
def tokens_for_any_unit(config, context):
    """It divides tokens by a budget that may be in steps, and cuts off what is too much."""
    return lambda progress: max(1 - min(progress.tokens / progress.budget.value, 1), 0.1)


@planted.fault(rates)
def budget_of_ten_thousand_steps(config, context):
    """The length that its author trains for is in the code."""
    return lambda progress: 1 - min(progress.step / 10_000, 1)


@planted.fault(resumed, "built anew in the middle of a stage")
def counts_from_its_first_call(config, context):
    """It warms up from where it is asked first, so once more in a resumed run."""
    first = []

    def factor(progress):
        first.append(progress.step)
        return min((progress.step - first[0]) / 10, 1.0)

    return factor


@planted.fault(rolled_back, "the same progress always has the same factor")
def never_rises_again(config, context):
    """It keeps the least factor so far, and a roll-back finds it there."""
    least = [1.0]

    def factor(progress):
        least[0] = min(least[0], 1 - 0.9 * min(progress.reached(progress.budget), 1))
        return least[0]

    return factor


@planted.fault(rates, "the same progress always has the same factor")
def jitter(config, context):
    """It adds noise without a seed."""
    right = ramp(config, context)
    return lambda progress: right(progress) * random.uniform(0.995, 1)


@planted.fault(rates, "the same progress always has the same factor")
def clock(config, context):
    """It decays with the machine's clock, not with the run's."""
    start = time.perf_counter()
    return lambda progress: max(1 - (time.perf_counter() - start), 0.0)


@planted.fault(rates, "every progress has a factor")
def divides_by_the_first_step(config, context):
    """At step 0 it divides by zero."""
    return lambda progress: min(1.0, (10 / progress.step) ** 0.5)
