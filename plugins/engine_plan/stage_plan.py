"""All figures of a train stage's plan."""

from __future__ import annotations

from dataclasses import dataclass

from engine import Amount, Situation, Train
from engine_plan.advice import Advice, advice
from engine_plan.bill import Bill, Utilisation, bill, utilisation
from engine_plan.forecast import Forecast, forecast
from engine_plan.machine import Machine
from engine_plan.outlook import FLOPS, Outlook, outlooks
from engine_plan.supply import Supply, supply
from engine_plan.terms import Terms


@dataclass(frozen=True, slots=True)
class StagePlan:
    """A stage's forecast, the settings with which it would fit (None if it fits), its prepared data,
    if any, and what follows from the terms. ``counts_epochs``: its budget does."""

    forecast: Forecast
    advice: list[Advice] | None
    supply: Supply | None
    utilisation: Utilisation | None
    bill: Bill
    outlooks: tuple[Outlook, ...]
    counts_epochs: bool

    @property
    def executed(self) -> float | None:
        """FLOPs executed by all ranks, with what is computed again."""
        found = self.forecast
        return None if found.steps is None else found.steps * _executed(found)

    @property
    def six_n_d(self) -> float | None:
        """FLOPs as 6·N·D, of all parameters (Kaplan et al. 2020, section 2.1)."""
        found = self.forecast
        return None if found.tokens is None else FLOPS * found.parameters * found.tokens


def plan_stage(situation: Situation, name: str, machine: Machine, terms: Terms) -> StagePlan | None:
    """The plan of a train stage; None if its model's size is unknown.

    A budget in epochs becomes one in tokens where the data is prepared.
    """
    train = situation.spec.stages[name].train
    assert train is not None
    there = supply(situation, name, terms.runs)
    found = forecast(situation, name, machine, _counted(train, there))
    if found is None:
        return None
    told = None if found.fits else advice(situation, found, machine)
    seconds = found.step_seconds
    share = None
    if seconds is not None:
        share = utilisation(
            machine,
            found.work.precision,
            model=found.chosen.estimate.flops / seconds / terms.processes,
            executed=_executed(found) / seconds / terms.processes,
        )
    return StagePlan(
        found,
        told,
        there,
        share,
        bill(machine, terms, found.seconds),
        tuple(outlooks(situation, found, there, terms)),
        train.budget.unit == "epochs",
    )


def _executed(found: Forecast) -> float:
    """FLOPs executed by all ranks in a step."""
    return found.chosen.estimate.executed.total * found.chosen.layout.ranks


def _counted(train: Train, there: Supply | None) -> Train:
    """The stage with a budget in tokens, if it is one in epochs of a known corpus."""
    if train.budget.unit != "epochs" or there is None:
        return train
    tokens = Amount(train.budget.value * there.tokens, "tokens")
    return train.model_copy(update={"budget": tokens})
