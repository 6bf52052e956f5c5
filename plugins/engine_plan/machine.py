"""What a machine offers each process for training: memory, speed and links."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from engine import RunError
from engine.hardware import Accelerator, accelerator, accelerators, find_accelerator, threads
from engine_plan.timed.sample import Sample
from engine_plan.timed.speeds import Speeds, training_speeds

_MEMINFO = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")
UTILISATION = 0.4
"""Share of the peak FLOPs that training reaches: PaLM 46 %, Llama 3 38–43 %, small models less."""
DEVICES = 8
"""Devices of a machine: more processes send over its network."""
_BALANCES = {"cpu": 100, "cuda": 4000}


@dataclass(frozen=True, slots=True)
class Links:
    """Links between processes: bandwidth in bytes per second, and latency in seconds per message.

    ``network``: bandwidth of a device to other machines of :data:`DEVICES` devices, if there are any.
    """

    bandwidth: float
    latency: float
    network: float | None = None

    def seconds(self, size: float, messages: float, near: float = 0, neighbours: int = 1) -> float:
        """Seconds to send ``size`` bytes in ``messages`` messages, ``near`` of them within groups of
        ``neighbours`` consecutive ranks.

        Other groups take one rank of each such group. A ring through all ranks of a machine leaves it
        once, by the network of all its devices together; so the more neighbours, the less for each.
        """
        if self.network is None:
            return size / self.bandwidth + messages * self.latency
        inside = self.bandwidth if neighbours <= DEVICES else self.network
        between = min(self.bandwidth, self.network * max(1, DEVICES // neighbours))
        return near / inside + (size - near) / between + messages * self.latency


LINKS = {"cpu": Links(1e9, 1e-3), "cuda": Links(50e9, 5e-5)}
"""Links of gloo on one machine, and of NCCL between devices without a data sheet. Latency includes
torch's work for a message: 33 messages made a step 60 ms longer on two busy cores."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What each of ``processes`` has: ``memory`` in bytes, ``links`` (None if unknown),
    ``assumed_speed`` in FLOPs per second, if given, and ``known``, the device's entry in the table."""

    device: str
    name: str
    memory: float
    processes: int = 1
    assumed_speed: float | None = None
    links: Links | None = None
    is_here: bool = True
    known: Accelerator | None = None

    @classmethod
    def here(cls, processes: int, more: Path | None = None) -> Machine:
        """This machine with ``processes`` processes, each on its own accelerator if there are any.

        ``more``: a user's table of accelerators.
        """
        found = accelerator()
        if found:
            known = accelerators(more).get(found[0])
            return cls("cuda", *found, processes, links=_links(known, processes), known=known)
        cores = os.cpu_count() or 1
        memory = memory_here() / processes
        return cls("cpu", f"{cores} CPU cores", memory, processes, links=LINKS["cpu"])

    @classmethod
    def elsewhere(cls, name: str, processes: int, more: Path | None = None) -> Machine:
        """Machines of eight accelerators of this name. Raises SpecError for an unknown name."""
        known = find_accelerator(name, more)
        links = _links(known, processes)
        return cls("cuda", known.name, known.memory, processes, None, links, False, known)

    @property
    def balance(self) -> float:
        """Approximate FLOPs that a process executes in the time of sending one byte."""
        return _BALANCES[self.device]

    def speeds(self, sample: Sample) -> Speeds | None:
        """Training speeds of a process: as assumed, as measured here, or a usual share of the data
        sheet's; None for an unknown device."""
        if self.assumed_speed is not None:
            return Speeds(self.assumed_speed, self.assumed_speed)
        if self.is_here:
            with contextlib.suppress(RunError):  # torch does not find the device
                found = training_speeds(sample, self.device)
                share = self._share()
                return Speeds(found.layers * share, found.head * share)
        if self.known is None:
            return None
        speed = UTILISATION * self.known.peak(sample.precision)
        return Speeds(speed, speed)

    def _share(self) -> float:
        """Share of a lone process's speed that each process reaches when several share the cores."""
        if self.device != "cpu":
            return 1
        return min(1, (os.cpu_count() or 1) / (threads() * self.processes))


def _links(known: Accelerator | None, processes: int) -> Links | None:
    """Links between the processes' devices, by the data sheet; None if it does not tell."""
    if known is None:
        return LINKS["cuda"]
    network = known.network if processes > DEVICES else None
    if known.links is None or (processes > DEVICES and network is None):
        return None
    return Links(known.links, LINKS["cuda"].latency, network)


def memory_here() -> float:
    """Memory in bytes of this machine, or of the container that limits this process."""
    total = float("inf")
    with contextlib.suppress(IndexError, ValueError):
        total = 1024 * float(_text(_MEMINFO).split("MemTotal:")[1].split()[0])
    with contextlib.suppress(ValueError):
        total = min(total, float(_text(_LIMIT)))
    return total


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except OSError:
        return ""
