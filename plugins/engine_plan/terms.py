"""What a plan assumes of the processes, from the command line."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from engine import FittedLaw
from engine.hardware import accelerators
from engine_plan.forecast import size
from engine_plan.machine import LINKS, UTILISATION, Links, Machine
from engine_plan.quantities import number


@dataclass(frozen=True, slots=True)
class Terms:
    """Assumptions about each process: ``memory`` in bytes, ``speed`` in FLOPs per second, ``links`` in
    bytes per second, ``price`` per hour, and the ``device`` name. None stands for this machine's value,
    or the table's price. ``table``: a user's table of accelerators; ``law``: a fitted law and its name;
    ``runs``: the folder of runs, where data may be prepared already.
    """

    processes: int = 1
    memory: float | None = None
    speed: float | None = None
    links: float | None = None
    price: float | None = None
    device: str | None = None
    table: Path | None = None
    law: tuple[str, FittedLaw] | None = None
    runs: Path = Path("runs")

    def machine(self) -> Machine:
        """This machine with the assumptions applied. Raises SpecError for an unknown device, or a
        faulty table.

        An assumed speed without a device makes the links unknown.
        """
        accelerators(self.table)
        machine = Machine.here(self.processes, self.table)
        if self.device is not None:
            machine = Machine.elsewhere(self.device, self.processes, self.table)
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
        if machine.links and machine.links != Machine.here(1, self.table).links:
            told.append(f"links of {size(machine.links.bandwidth)} a second")
        if told and machine.device == "cpu":
            told.append("a CPU's kernels (--device names others)")
        return told
