"""What this machine has for training: memory, speed and links of a process."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path

from engine.accelerators import ACCELERATORS, accelerator
from engine.errors import RunError, SpecError
from engine.measured import threads
from engine.speeds import Sample, Speeds, training_speeds

_MEMINFO = Path("/proc/meminfo")
_LIMIT = Path("/sys/fs/cgroup/memory.max")
UTILISATION = 0.4
"""Share of the peak that training reaches: PaLM's 46 %, Llama 3's 38 to 43 %, less in small."""
_BALANCES = {"cpu": 100, "cuda": 4000}


@dataclass(frozen=True, slots=True)
class Links:
    """From a process to another: bytes a second, and seconds until a message starts."""

    bandwidth: float
    latency: float

    def seconds(self, size: float, messages: float) -> float:
        """To send so many bytes in so many messages."""
        return size / self.bandwidth + messages * self.latency


LINKS = {"cpu": Links(1e9, 1e-3), "cuda": Links(50e9, 5e-5)}
"""gloo's on one machine, and NCCL's between eight devices of one. torch's own work for a message is
in its seconds: 33 of them made a step 60 ms longer on two busy cores."""


@dataclass(frozen=True, slots=True)
class Machine:
    """What each of ``processes`` here has: ``memory`` in bytes, and where ``assumed_speed`` is
    given so many FLOPs a second. ``links`` are None where nobody knows them."""

    device: str
    name: str
    memory: float
    processes: int = 1
    assumed_speed: float | None = None
    links: Links | None = None
    is_here: bool = True

    @classmethod
    def here(cls, processes: int) -> Machine:
        """This machine, with so many processes, each on an accelerator of its own if it has any."""
        found = accelerator()
        if found:
            return cls("cuda", *found, processes, links=LINKS["cuda"])
        cores = os.cpu_count() or 1
        memory = memory_here() / processes
        return cls("cpu", f"{cores} CPU cores", memory, processes, links=LINKS["cpu"])

    @classmethod
    def elsewhere(cls, name: str, processes: int) -> Machine:
        """One with accelerators of this name. Raises SpecError where the name is not known."""
        found = ACCELERATORS.get(name)
        if found is None:
            known = ", ".join(f"'{one}'" for one in ACCELERATORS)
            raise SpecError(f"no data sheet of '{name}' is known", mend=f"known are {known}")
        return cls("cuda", name, found.memory, processes, links=LINKS["cuda"], is_here=False)

    @property
    def balance(self) -> float:
        """FLOPs that a process executes while it sends a byte, roughly."""
        return _BALANCES[self.device]

    def speeds(self, sample: Sample) -> Speeds | None:
        """Of a process that trains such a model: as assumed, as measured here, or else a usual share
        of what the data sheet says; None where the device is not known."""
        if self.assumed_speed is not None:
            return Speeds(self.assumed_speed, self.assumed_speed)
        if self.is_here:
            with contextlib.suppress(RunError):  # torch does not see the device
                found = training_speeds(sample, self.device)
                share = self._share()
                return Speeds(found.layers * share, found.head * share)
        known = ACCELERATORS.get(self.name)
        if known is None:
            return None
        speed = UTILISATION * known.peak(sample.precision)
        return Speeds(speed, speed)

    def _share(self) -> float:
        """Of what one process reaches alone, where several have these cores together."""
        if self.device != "cpu":
            return 1
        return min(1, (os.cpu_count() or 1) / (threads() * self.processes))


def memory_here() -> float:
    """Bytes of memory of this machine, or of the container around this process."""
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
