"""Prints what an amount of compute buys (``engine plan --compute``): no spec is needed."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from rich.markup import escape
from rich.table import Table

from engine import PUBLISHED_LAWS, Precision, Terminal
from engine_plan.bill import bill, utilisation
from engine_plan.machine import UTILISATION, Machine
from engine_plan.outlook import FLOPS, Optimum, fitted_optimum, published_optimum
from engine_plan.quantities import PF_DAY, duration, number, pf_days
from engine_plan.report import bill_lines, bill_row, print_lines, utilisation_lines
from engine_plan.terms import Terms

_AROUND = (1 / 16, 1 / 4, 1, 4, 16)
"""Sizes to show, relative to the optimum by the most trusted law."""


def print_compute(flops: float, sizes: Sequence[float], terms: Terms, as_json: bool) -> None:
    """Prints optima by the laws, the tokens left to some ``sizes``, time, cost and energy."""
    machine = terms.machine()
    best = list(_optima(flops, terms))
    shown = sorted({*sizes, *(share * best[0].parameters for share in _AROUND)})
    speed = _speed(machine)
    seconds = flops / speed / terms.processes if speed else None
    cost = bill(machine, terms, seconds)
    share = speed and utilisation(machine, _precision(machine), model=speed, executed=speed)
    if as_json:
        row = {
            "flops": flops,
            "pf_days": flops / PF_DAY,
            "optima": [asdict(one) for one in best],
            "sizes": [_size(flops, one, best[0]) for one in shown],
            "processes": terms.processes,
            "device": machine.name,
            "utilisation": asdict(share) if share else None,
            "seconds": seconds,
            **bill_row(cost),
        }
        print(json.dumps(row, indent=1, allow_nan=False))  # noqa: T201
        return
    console = Terminal(width=80)
    console.print(f"[bold]{number(flops)} FLOPs[/]  {pf_days(flops)}")
    console.print(_optima_table(best))
    warnings = [("warning", f"{one.law}: {doubt}") for one in best for doubt in one.warnings]
    print_lines(console, iter(warnings))
    console.print(f"  [bold]sizes[/] by {best[0].law}")
    console.print(_sizes_table(flops, shown, best[0]))
    ranks = f"{terms.processes} process{'es' if terms.processes > 1 else ''}, {machine.name}"
    lines = [("on", ranks)]
    if share:
        lines += utilisation_lines(share)
    if seconds is None:
        lines.append(("time", "not known: give --device or --speed"))
    else:
        lines += [("time", duration(seconds)), *bill_lines(cost, machine)]
    print_lines(console, iter(lines))


def _optima(flops: float, terms: Terms) -> Iterator[Optimum]:
    yield from (published_optimum(name, flops) for name in PUBLISHED_LAWS)
    if terms.law is not None:
        name, law = terms.law
        counted = "" if law.best.counted == "all" else ", N without embedding and head"
        yield fitted_optimum(f"{name}{counted}", law, flops)


def _size(flops: float, parameters: float, best: Optimum) -> dict[str, Any]:
    tokens = flops / FLOPS / parameters
    loss = PUBLISHED_LAWS[best.law].loss(parameters, tokens)
    excess = loss - best.loss
    return {"parameters": parameters, "tokens": tokens, "loss": loss, "excess": excess}


def _speed(machine: Machine) -> float | None:
    """FLOPs per second of a process: as assumed, or a usual share of a known device's peak."""
    if machine.assumed_speed is not None:
        return machine.assumed_speed
    known = machine.known
    return UTILISATION * known.peak(_precision(machine)) if known else None


def _precision(machine: Machine) -> Precision:
    return "fp16" if machine.known and machine.known.bf16 is None else "bf16"


def _optima_table(best: Sequence[Optimum]) -> Table:
    table = _table("compute-optimal by", "parameters", "tokens", "loss")
    for one in best:
        loss = f"{one.loss:.3f}"
        if one.low is not None and one.high is not None:
            loss += f" ({one.low:.3f} to {one.high:.3f})"
        table.add_row(escape(one.law), number(one.parameters), number(one.tokens), loss)
    return table


def _sizes_table(flops: float, sizes: Sequence[float], best: Optimum) -> Table:
    heads = ("tokens", "per parameter", "loss", "above the optimum")
    table = _table("parameters", *heads)
    for parameters in sizes:
        one = _size(flops, parameters, best)
        each = number(one["tokens"] / parameters)
        losses = (f"{one['loss']:.3f}", f"{one['excess']:+.3f}")
        table.add_row(number(parameters), number(one["tokens"]), each, *losses)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, padding=(0, 2), header_style="")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
