"""Prints what a spec needs (``engine plan SPEC``)."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine import Situation, Terminal, flops_from
from engine_plan.advice import Advice
from engine_plan.bill import ASSUMED, Bill, Utilisation
from engine_plan.forecast import Forecast, plain, size
from engine_plan.machine import Machine
from engine_plan.outlook import Outlook
from engine_plan.quantities import PF_DAY, duration, energy, money, number, pf_days
from engine_plan.stage_plan import StagePlan, plan_stage
from engine_plan.supply import Supply
from engine_plan.terms import Terms

_KINDS = ("parameters", "gradients", "optimizer", "activations", "buffers")
Lines = Iterator[tuple[str, str]]


def print_plan(situation: Situation, terms: Terms, as_json: bool) -> None:
    """Prints every train stage, as tables in 80 columns, or as JSON in bytes, FLOPs and seconds."""
    machine = terms.machine()
    names = [name for name in situation.stages if situation.spec.stages[name].train]
    found = {name: plan_stage(situation, name, machine, terms) for name in names}
    if as_json:
        rows = [{"stage": name, **_row(one, terms)} for name, one in found.items()]
        print(json.dumps(rows, indent=1, allow_nan=False))  # noqa: T201
        return
    console = Terminal(width=80)
    for name, one in found.items():
        _print_stage(console, name, one, terms, machine)
    if not found:
        console.print("nothing is trained here")
    _print_sum(console, [one for one in found.values() if one])


def print_lines(console: Console, lines: Lines) -> None:
    """Prints labels and texts in two columns."""
    table = Table.grid(padding=(0, 2))
    table.add_column(width=14)
    table.add_column()
    for label, text in lines:
        table.add_row(f"  {label}", escape(text))
    console.print(table)


def bill_lines(bill: Bill, machine: Machine) -> Lines:
    """Cost with its price, and energy, where they are known."""
    price, power = bill.price, machine.known and machine.known.power
    if price is not None and bill.cost is not None:
        unit = f" {price.currency}".rstrip()
        yield "cost", f"{money(bill.cost)}{unit} at {price.hour:g} an hour: {price.source}"
    if bill.energy is not None and power:
        yield "energy", f"{energy(bill.energy)} at full power, {power:g} W a device"


def utilisation_text(share: Utilisation) -> str:
    """The share of the peak, and where both are from."""
    again = f" ({share.executed:.0%} executed)" if share.executed > 1.005 * share.model else ""
    peak = f"{number(share.peak)} FLOPs a second in {share.precision}"
    return f"{share.model:.0%}{again} of {peak}, {share.source}; {share.origin}"


def utilisation_lines(share: Utilisation) -> Lines:
    """The utilisation; with a warning where an assumed speed is more than the device can have."""
    yield "utilisation", utilisation_text(share)
    if share.origin == ASSUMED and share.executed > 1.005:
        yield "warning", f"--speed is {number(share.executed)} times the device's peak"


def bill_row(bill: Bill) -> Mapping[str, Any]:
    """The bill as data: cost, price and kilowatt-hours."""
    price = bill.price and asdict(bill.price)
    return {"cost": bill.cost, "price": price, "kilowatt_hours": bill.energy}


def _row(one: StagePlan | None, terms: Terms) -> dict[str, Any]:
    if one is None:
        return {"parameters": None}
    found = one.forecast
    needs, there = found.chosen.estimate, one.supply
    return {
        "parameters": found.parameters,
        "processes": terms.processes,
        "strategy": plain(found.chosen.config),
        "why": found.chosen.why,
        "layout": asdict(found.chosen.layout),
        "memory": {**asdict(needs.memory), "total": needs.memory.total, "available": found.memory},
        "fits": found.fits,
        "advice": [{"settings": a.fields(), "total": a.memory} for a in one.advice or ()],
        "disk": found.disk,
        "steps": found.steps,
        "tokens": found.tokens,
        "assumed": terms.assumed(found.machine),
        "step": {
            "flops": needs.flops,
            "executed_flops": needs.executed.total * found.chosen.layout.ranks,
            "traffic": needs.traffic,
            "links": found.machine.links and found.machine.links.bandwidth,
            "seconds": found.step_seconds,
        },
        "flops": found.flops,
        "flops_from": flops_from(found.shape),
        "executed_flops": one.executed,
        "six_n_d": one.six_n_d,
        "pf_days": None if found.flops is None else found.flops / PF_DAY,
        "utilisation": one.utilisation and asdict(one.utilisation),
        "seconds": found.seconds,
        **bill_row(one.bill),
        "data": there and _data_row(there, found.tokens),
        "outlook": [{**asdict(o), "excess": o.excess} for o in one.outlooks],
        "upper_bound": not found.whole,
    }


def _data_row(there: Supply, needed: float | None) -> dict[str, Any]:
    if needed is None:
        return {"tokens": there.tokens, "epochs": None, "effective_tokens": None, "sources": None}
    return {
        "tokens": there.tokens,
        "epochs": needed / there.tokens,
        "effective_tokens": there.effective(needed),
        "sources": there.epochs(needed),
    }


def _print_stage(
    console: Console, name: str, one: StagePlan | None, terms: Terms, machine: Machine
) -> None:
    if one is None:
        console.print(
            f"[bold]{name}[/]  its size is not known: the model's config, or its tokenizer's, "
            "leaves it to defaults or to the hub"
        )
        return
    ranks = f"{terms.processes} process{'es' if terms.processes > 1 else ''}"
    title = f"{number(one.forecast.parameters)} parameters on {ranks}, {machine.name}"
    console.print(f"[bold]{name}[/]  {escape(title)}")
    print_lines(console, _lines(one, terms))


def _lines(one: StagePlan, terms: Terms) -> Lines:
    found, needs, work = one.forecast, one.forecast.chosen.estimate, one.forecast.work
    yield "strategy", _strategy(found)
    if found.chosen.why:
        yield "", found.chosen.why
    if assumed := terms.assumed(found.machine):
        yield "assumed", ", ".join(assumed)
    yield (
        "micro-batch",
        f"{work.rows} × {work.sequence} tokens, {work.micro_batches} a step on each rank",
    )
    if work.batch is not None and not work.batch.filled:
        yield "texts", str(work.batch)
    if flops_from(found.shape) == "weights":
        yield "FLOPs", "estimated from its weights, without attention"
    bound = "" if found.whole else ", as if all parameters were trained"
    for kind in _KINDS:
        yield kind, f"{size(getattr(needs.memory, kind)):>8}"
    verdict = "fits" if found.fits else "does not fit"
    total = f"{size(needs.memory.total):>8} of {size(found.memory)} on each rank: {verdict}{bound}"
    yield "memory", total
    if one.advice is not None:
        yield from _advised(one.advice)
    yield "disk", f"{size(found.disk):>8} of checkpoints and the final model"
    yield "a step", _step(found, terms)
    if found.budget.unit == "epochs":
        yield "in all", "not known before the data is prepared: the budget counts epochs"
        return
    yield from _in_all(one)
    if one.utilisation is not None:
        yield from utilisation_lines(one.utilisation)
    if found.seconds is None:
        yield "time", f"the speed of '{found.machine.name}' is not known: give --speed"
    else:
        yield "time", duration(found.seconds)
    yield from bill_lines(one.bill, found.machine)
    yield from _data(one)
    for outlook in one.outlooks:
        yield from _outlook(outlook)


def _in_all(one: StagePlan) -> Lines:
    found, executed, simple = one.forecast, one.executed, one.six_n_d
    if found.steps is None or found.tokens is None or found.flops is None:
        return
    yield "in all", f"{number(found.steps)} steps, {number(found.tokens)} tokens"
    told = f"{number(found.flops)} of the model, {pf_days(found.flops)}"
    if executed is not None and executed > 1.0005 * found.flops:
        told += f"; {number(executed)} executed"
    yield "FLOPs", told + ("" if simple is None else f"; {number(simple)} by 6·N·D")


def _data(one: StagePlan) -> Lines:
    """The tokens needed, beside those that are prepared."""
    needed, there = one.forecast.tokens, one.supply
    if needed is None:
        return
    if there is None:
        if one.outlooks:
            yield "data", f"{number(needed)} tokens; what is there is known when it is prepared"
        return
    told = f"{number(there.tokens)} tokens in {there.folder}: {needed / there.tokens:.3g} epochs"
    each = there.epochs(needed)
    low, high = min(each.values()), max(each.values())
    if high > 1.005 * low:
        told += f" ({low:.3g} to {high:.3g} of its sources)"
    if high > 1:
        fresh = there.effective(needed)
        told += f", worth {number(fresh)} fresh tokens (Muennighoff et al. 2023)"
    yield "data", told


def _outlook(outlook: Outlook) -> Lines:
    best = outlook.optimum
    if outlook.low is not None and outlook.high is not None:
        yield "loss", f"{outlook.loss:.3f} ({outlook.low:.3f} to {outlook.high:.3f}), {outlook.law}"
    counted = "" if outlook.counted == "all" else " without embedding and head"
    beside = number(outlook.parameters)
    if counted:
        beside += f" (and {number(outlook.others)} of these)"
    yield (
        "optimum",
        f"{number(best.parameters)} parameters{counted} × {number(best.tokens)} tokens for as many "
        f"FLOPs, beside {beside} × {number(outlook.tokens)}: its loss is "
        f"{outlook.excess:.3f} lower ({outlook.law})",
    )
    for doubt in outlook.warnings:
        yield "warning", doubt


def _step(found: Forecast, terms: Terms) -> str:
    """FLOPs, time and communication of a step."""
    needs, seconds = found.chosen.estimate, found.step_seconds
    told = f"{number(needs.flops)} FLOPs"
    if seconds is not None:
        told += f" in {duration(seconds)}"
    if terms.processes == 1:
        return told
    told += f", {size(needs.traffic)} sent by a rank"
    if seconds is not None and found.machine.links is None:
        told += ", for which no time is counted: --links says how fast"
    return told


def _advised(told: list[Advice]) -> Lines:
    if not told:
        yield "fits with", "none of the settings here: take more processes or a smaller model"
    for place, one in enumerate(told):
        yield "fits with" if place == 0 else "", f"{one}  ({size(one.memory)})"


def _strategy(found: Forecast) -> str:
    fields = plain(found.chosen.config)
    kind = fields.pop("type")
    told = ", ".join(f"{name} {value}" for name, value in fields.items())
    return f"{kind}: {told}" if told else kind


def _print_sum(console: Console, stages: list[StagePlan]) -> None:
    """The sum over several stages, if their times are known."""
    times = [one.forecast.seconds for one in stages]
    if len(stages) < 2 or None in times:
        return
    told = duration(sum(filter(None, times)))
    costs, price = [one.bill.cost for one in stages], stages[0].bill.price
    if price is not None and None not in costs:
        told += f", {money(sum(filter(None, costs)))} {price.currency}".rstrip()
    console.print(f"[bold]all stages[/]  {told}")
