"""Detects and names processes that are killed, stopped or disconnected.

A collective that waits for a dead process may wait for half an hour. So each process writes a heartbeat
to the launcher's store, and exits if another's heartbeat is missing for too long; the launcher then
restarts all of them or ends the job.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

from engine.processes.process import Process
from engine.terminal.output import write_cleaned

_BEAT_SECONDS = 0.5
_VERDICT = "watch/verdict"
_LEFT = "left"


class Watch:
    """Sends this rank's heartbeats and checks those of the others."""

    def __init__(self, process: Process, timeout: float) -> None:
        """``timeout``: seconds without a heartbeat after which a process counts as lost."""
        self._process, self._rank, self._timeout = process, process.rank, timeout
        self._ranks = range(process.world_size)
        self._suspects: set[int] = set()
        self._stopping = threading.Event()
        self._answered = self._awake = time.monotonic()
        self._threads = [
            threading.Thread(target=work, name="watch", daemon=True)
            for work in (self._beat, self._notice_silence)
        ]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ends the watch and tells the others that this rank has left."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(self._timeout)

    def _beat(self) -> None:
        heard = dict.fromkeys(self._ranks, ("", time.monotonic()))
        store: Any = None
        beat = 0
        leaving = False
        while not leaving:
            leaving = self._stopping.wait(_BEAT_SECONDS)
            beat += 1
            # torch raises RuntimeError for failures of stores and connections.
            with contextlib.suppress(RuntimeError):
                if store is None:
                    store = self._process.store(timeout=max(1.0, self._timeout / 4))
                    store.set(f"watch/place/{self._rank}", f"{_machine()} {os.getpid()}")
                store.set(f"watch/beat/{self._rank}", _LEFT if leaving else str(beat))
                if not leaving:
                    self._listen(store, heard)
                self._answered = time.monotonic()

    def _notice_silence(self) -> None:
        """Runs in a thread of its own, because the other one hangs if the connection is cut."""
        woke = time.monotonic()
        while not self._stopping.wait(_BEAT_SECONDS):
            now = time.monotonic()
            if now - woke > self._timeout / 2:  # this process was stopped, perhaps with all others
                self._awake = now
            woke = now
            if now - max(self._answered, self._awake) > self._timeout:
                self._end("the store that connects the processes no longer answers")

    def _listen(self, store: Any, heard: dict[int, tuple[str, float]]) -> None:
        """Checks the other ranks' heartbeats. Raises RuntimeError if the store does not answer."""
        if store.check([_VERDICT]):
            self._end(store.get(_VERDICT).decode())
        # Rank 0 checks all ranks and all check rank 0, whose verdict reaches all.
        now = time.monotonic()
        for other in self._ranks if self._rank == 0 else (0,):
            key = f"watch/beat/{other}"
            beat = store.get(key).decode() if store.check([key]) else ""
            overdue = now - max(heard[other][1], self._awake) > self._timeout
            if beat != heard[other][0]:
                heard[other] = (beat, now)
            elif beat == _LEFT or not overdue:
                self._suspects.discard(other)
            elif other not in self._suspects:
                # Wait for one more round: this process may itself have just been stopped.
                self._suspects.add(other)
            else:
                verdict = (
                    f"no heartbeat of rank {other} for {self._timeout:.0f} s: it was killed, stopped "
                    "or disconnected"
                )
                store.set(_VERDICT, verdict)
                _kill_if_here(store, other)
                self._end(verdict)

    def _end(self, why: str) -> None:
        """Exits at once, because the main thread may be inside a collective that never returns."""
        if not self._stopping.is_set():
            write_cleaned(f"error: rank {self._rank} ends: {why}\n", error=True)
            os._exit(1)


def _kill_if_here(store: Any, rank: int) -> None:
    """Kills a rank on this machine: the launcher would wait for ever for a stopped process."""
    machine, pid = store.get(f"watch/place/{rank}").decode().split()
    if machine == _machine():
        os.kill(int(pid), signal.SIGKILL)


def _machine() -> str:
    """The scope in which process ids are unique; containers may share a host or its name."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return "/".join([boot, *(os.readlink(f"/proc/self/ns/{kind}") for kind in ("pid", "net"))])
    except OSError:  # no Linux
        return socket.gethostname()
