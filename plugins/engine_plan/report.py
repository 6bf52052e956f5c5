"""Prints what a spec needs (``engine plan``)."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine import Situation, SpecError, Terminal
from engine_plan.advice import Advice, advice
from engine_plan.forecast import (
    Forecast,
    forecasts,
    plain,
    size,
)
from engine_plan.machine import (
    LINKS,
    UTILISATION,
    Links,
    Machine,
)

_SIZE = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([kKMGT]?)(i?)B?\s*")
_POWERS = {"": 0, "k": 1, "K": 1, "M": 2, "G": 3, "T": 4}
_KINDS = ("parameters", "gradients", "optimizer", "activations", "buffers")


@dataclass(frozen=True, slots=True)
class Terms:
    """Assumptions about each process: ``memory`` in bytes, ``speed`` in FLOPs per second, ``links`` in
    bytes per second, ``price`` per hour, and the ``device`` name. None stands for this machine's value,
    or an unknown price."""

    processes: int = 1
    memory: float | None = None
    speed: float | None = None
    links: float | None = None
    price: float | None = None
    device: str | None = None

    def machine(self) -> Machine:
        """This machine with the assumptions applied. Raises SpecError for an unknown device.

        An assumed speed without a device makes the links unknown.
        """
        machine = Machine.here(self.processes)
        if self.device is not None:
            machine = Machine.elsewhere(self.device, self.processes)
        links = machine.links
        if self.speed is not None and self.device is None and machine.device == "cpu":
            links = None
        if self.links is not None:
            links = Links(self.links, LINKS[machine.device].latency)
        memory = machine.memory if self.memory is None else self.memory
        return replace(machine, memory=memory, assumed_speed=self.speed, links=links)

    def assumed(self, machine: Machine) -> list[str]:
        """The assumptions that differ from this machine, in words."""
        told = []
        if self.memory is not None:
            told.append(f"{size(self.memory)} of memory")
        elif self.device is not None:
            told.append(f"{size(machine.memory)} of memory")
        if self.speed is not None:
            told.append(f"{number(self.speed)} FLOPs a second")
        elif self.device is not None:
            told.append(f"{UTILISATION:.0%} of its data sheet's speed")
        if machine.links and machine.links != Machine.here(1).links:
            told.append(f"links of {size(machine.links.bandwidth)} a second")
        if told and machine.device == "cpu":
            told.append("a CPU's kernels (--device names others)")
        return told


def print_plan(situation: Situation, terms: Terms, as_json: bool) -> None:
    """Prints every train stage, as tables in 80 columns, or as JSON in bytes, FLOPs and seconds."""
    machine = terms.machine()
    found = forecasts(situation, machine)
    told = {
        name: None if one is None or one.fits else advice(situation, one, machine)
        for name, one in found.items()
    }
    if as_json:
        rows = [{"stage": name, **_row(f, told[name], terms)} for name, f in found.items()]
        print(json.dumps(rows, indent=1))  # noqa: T201
        return
    console = Terminal(width=80)
    for name, one in found.items():
        _print_stage(console, name, one, told[name], terms, machine)
    if not found:
        console.print("nothing is trained here")


def parse_size(text: str) -> float:
    """Parses ``24GB``, ``24 GiB``, ``512M`` or plain bytes. Raises SpecError."""
    found = _SIZE.fullmatch(text)
    if not found:
        raise SpecError(f"'{text}' is no size", hint="write e.g. 24GB or 16GiB")
    thousand: int = 1024 if found[3] else 1000
    power: int = _POWERS[found[2]]
    return float(found[1]) * thousand**power  # type: ignore[no-any-return]


def _row(found: Forecast | None, told: list[Advice] | None, terms: Terms) -> dict[str, Any]:
    if found is None:
        return {"parameters": None}
    needs = found.chosen.estimate
    return {
        "parameters": found.parameters,
        "processes": terms.processes,
        "strategy": plain(found.chosen.config),
        "why": found.chosen.why,
        "layout": asdict(found.chosen.layout),
        "memory": {**asdict(needs.memory), "total": needs.memory.total, "available": found.memory},
        "fits": found.fits,
        "advice": [{"settings": a.fields(), "total": a.memory} for a in told or ()],
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
        "seconds": found.seconds,
        "cost": _cost(found, terms),
        "upper_bound": not found.whole,
    }


def _cost(found: Forecast, terms: Terms) -> float | None:
    if terms.price is None or found.seconds is None:
        return None
    return terms.price * terms.processes * found.seconds / 3600


def _print_stage(
    console: Console,
    name: str,
    found: Forecast | None,
    told: list[Advice] | None,
    terms: Terms,
    machine: Machine,
) -> None:
    if found is None:
        console.print(
            f"[bold]{name}[/]  its size is not known: the model's config, or its tokenizer's, "
            "leaves it to defaults or to the hub"
        )
        return
    ranks = f"{terms.processes} process{'es' if terms.processes > 1 else ''}"
    title = f"{number(found.parameters)} parameters on {ranks}, {machine.name}"
    console.print(f"[bold]{name}[/]  {escape(title)}")
    table = Table.grid(padding=(0, 2))
    table.add_column(width=14)
    table.add_column()
    for label, text in _lines(found, told, terms):
        table.add_row(f"  {label}", escape(text))
    console.print(table)


def _lines(found: Forecast, told: list[Advice] | None, terms: Terms) -> Iterator[tuple[str, str]]:
    needs, work = found.chosen.estimate, found.work
    yield "strategy", _strategy(found)
    if found.chosen.why:
        yield "", found.chosen.why
    if assumed := terms.assumed(found.machine):
        yield "assumed", ", ".join(assumed)
    yield (
        "micro-batch",
        f"{work.rows} × {work.sequence} tokens, {work.micro_batches} a step on each rank",
    )
    bound = "" if found.whole else ", as if all parameters were trained"
    for kind in _KINDS:
        yield kind, f"{size(getattr(needs.memory, kind)):>8}"
    verdict = "fits" if found.fits else "does not fit"
    total = f"{size(needs.memory.total):>8} of {size(found.memory)} on each rank: {verdict}{bound}"
    yield "memory", total
    if told is not None:
        yield from _advised(told)
    yield "disk", f"{size(found.disk):>8} of checkpoints and the final model"
    yield "a step", _step(found, terms)
    if found.budget.unit == "epochs":
        yield "in all", "not known before the data is prepared: the budget counts epochs"
        return
    if found.steps is not None and found.tokens is not None and found.flops is not None:
        yield (
            "in all",
            f"{number(found.steps)} steps, {number(found.tokens)} tokens, "
            f"{number(found.flops)} FLOPs",
        )
    if found.seconds is None:
        yield "time", f"the speed of '{found.machine.name}' is not known: give --speed"
        return
    cost = _cost(found, terms)
    yield "time", duration(found.seconds) + ("" if cost is None else f", cost {cost:.2f}")


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


def _advised(told: list[Advice]) -> Iterator[tuple[str, str]]:
    if not told:
        yield "fits with", "none of the settings here: take more processes or a smaller model"
    for place, one in enumerate(told):
        yield "fits with" if place == 0 else "", f"{one}  ({size(one.memory)})"


def _strategy(found: Forecast) -> str:
    fields = plain(found.chosen.config)
    kind = fields.pop("type")
    told = ", ".join(f"{name} {value}" for name, value in fields.items())
    return f"{kind}: {told}" if told else kind


def number(value: float) -> str:
    """Formats a number for people: ``2.56M``."""
    for factor, letter in (
        (1e18, "E"),
        (1e15, "P"),
        (1e12, "T"),
        (1e9, "B"),
        (1e6, "M"),
        (1e3, "k"),
    ):
        if value >= factor:
            return f"{value / factor:.3g}{letter}"
    return f"{value:.3g}"


def duration(seconds: float) -> str:
    """Formats seconds for people: ``2 min``, to two digits, as it is an estimate."""
    for factor, unit in ((86400, "days"), (3600, "h"), (60, "min"), (1, "s")):
        if seconds >= 2 * factor:
            return f"about {float(f'{seconds / factor:.2g}'):g} {unit}"
    if seconds < 1:
        return f"about {float(f'{1000 * seconds:.2g}'):g} ms"
    return f"about {seconds:.1f} s"
