"""This process's rank, and starting several: one process, ``--nproc``, torchrun or a scheduler."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from types import FrameType
from typing import TYPE_CHECKING, Any

from engine.errors import RunError, SpecError
from engine.hardware.allocator import keep_freed_memory
from engine.hardware.devices import check_alike, describe, device_of

if TYPE_CHECKING:
    import torch


_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Process:
    """This process, one of ``world_size``; ``local_rank`` is its number on this machine."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @classmethod
    def from_environment(cls) -> Process:
        """Reads RANK, WORLD_SIZE and LOCAL_RANK as set by a launcher. Raises SpecError."""
        try:
            size = int(os.environ.get("WORLD_SIZE", "1"))
            rank = int(os.environ.get("RANK", "0"))
            local = int(os.environ.get("LOCAL_RANK", "0"))
        except ValueError as error:
            raise SpecError(f"RANK, WORLD_SIZE and LOCAL_RANK must be numbers: {error}") from None
        if not 0 <= rank < size:
            raise SpecError(f"RANK={rank} is out of range for WORLD_SIZE={size}")
        return cls(rank, size, local)

    @property
    def local_world_size(self) -> int:
        """Processes on this machine, from the launcher's LOCAL_WORLD_SIZE; 1 without it."""
        size = os.environ.get("LOCAL_WORLD_SIZE", "1")
        return int(size) if size.isdecimal() else 1

    @property
    def restarted(self) -> bool:
        """Whether the launcher restarted this process after a failure, with the same command line."""
        return os.environ.get("TORCHELASTIC_RESTART_COUNT", "0") != "0"

    def tune(self, *, deterministic: bool = False) -> None:
        """Sets up memory allocation and, if asked, deterministic kernels."""
        if deterministic:
            import torch

            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
            torch.use_deterministic_algorithms(True)
        keep_freed_memory()

    @property
    def device(self) -> torch.device:
        """The accelerator of this process, or the CPU. Raises RunError as :func:`device_of`."""
        return device_of(self.local_rank)

    def join(self) -> None:
        """Joins the process group. Raises RunError if MASTER_ADDR or MASTER_PORT is missing or invalid,
        or if the ranks' devices differ in kind."""
        device = self.device
        if device.type == "cuda":
            import torch

            torch.cuda.set_device(device)
        if self.world_size == 1:
            return
        import torch.distributed as dist

        missing = [name for name in ("MASTER_ADDR", "MASTER_PORT") if name not in os.environ]
        if missing:
            raise RunError(
                f"WORLD_SIZE={self.world_size} but {' and '.join(missing)} is not set",
                hint="start with --nproc, torchrun, or a launcher that sets it",
            )
        if not os.environ["MASTER_PORT"].isdecimal():
            raise RunError(
                f"MASTER_PORT={os.environ['MASTER_PORT']} is not a port",
                hint="set it to a number",
            )
        place = {"store": self.store(), "rank": self.rank, "world_size": self.world_size}
        if device.type == "cuda":  # NCCL connects at its first use, after the check
            dist.init_process_group("cpu:gloo,cuda:nccl", **place)
        else:
            dist.init_process_group("gloo", **place)
        check_alike(self.all_gather(describe(device)))

    def store(self, *, timeout: float = 300.0) -> Any:
        """The launcher's key-value store, or rank 0's. Requests time out after ``timeout`` seconds.

        Keys have a prefix for each restart: the launcher's store outlives the processes, and restarted
        ones must not find the addresses of dead ones.
        """
        from torch.distributed import PrefixStore, TCPStore

        store = TCPStore(
            os.environ["MASTER_ADDR"],
            int(os.environ["MASTER_PORT"]),
            self.world_size,
            is_master=self.rank == 0 and os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True",
            timeout=timedelta(seconds=timeout),
            multi_tenant=True,
        )
        return PrefixStore(f"start/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)

    def leave(self) -> None:
        """Leaves the process group."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.destroy_process_group()

    def barrier(self) -> None:
        """Waits for all ranks."""
        if self.world_size > 1:
            import torch.distributed as dist

            dist.barrier()

    def first_alone(self, work: Callable[[], Any]) -> Any:
        """Runs ``work`` on rank 0 and returns its result (plain data) on every rank.

        The other ranks wait without a time limit; a collective would give up after minutes. If ``work``
        raises, rank 0 raises its exception and the others RunError.
        """
        if self.world_size == 1:
            return work()
        import torch.distributed as dist

        store = dist.distributed_c10d._get_default_store()
        key = f"first-alone-{store.add(f'first-alone-calls-{self.rank}', 1)}"
        if self.rank == 0:
            try:
                made = work()
            except Exception:
                store.set(key, "failed")
                raise
            store.set(key, "done")
            return self.broadcast(made)
        while not store.check([key]):
            time.sleep(_POLL_SECONDS)
        if store.get(key) == b"failed":
            raise RunError("rank 0 failed; see its own message")
        return self.broadcast(None)

    def gather(self, value: Any) -> list[Any]:
        """Every rank's value (plain Python data) in rank order on rank 0, an empty list elsewhere."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        gathered: list[Any] = [None] * self.world_size if self.rank == 0 else []
        dist.gather_object(value, gathered if self.rank == 0 else None)
        return gathered

    def all_gather(self, value: Any) -> list[Any]:
        """Every rank's value (plain Python data) in rank order, on every rank."""
        if self.world_size == 1:
            return [value]
        import torch.distributed as dist

        gathered: list[Any] = [None] * self.world_size
        dist.all_gather_object(gathered, value)
        return gathered

    def broadcast(self, value: Any) -> Any:
        """Rank 0's value (plain Python data) on every rank."""
        if self.world_size == 1:
            return value
        import torch.distributed as dist

        box = [value]
        dist.broadcast_object_list(box)
        return box[0]


class Signals:
    """Counts SIGTERM and SIGINT, so that work can end at a safe point.

    A Ctrl-C after either ends the process at once. A second SIGTERM does not: a scheduler sends it to
    every process, and a launcher forwards its own.
    """

    def __init__(self) -> None:
        self.count = 0

    @contextlib.contextmanager
    def caught(self) -> Iterator[None]:
        """Counts the signals inside the context instead of ending the process."""
        old = {s: signal.signal(s, self._note) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.count += 1
        if self.count > 1 and number == signal.SIGINT:
            os._exit(1)


def spawn(nproc: int, arguments: Sequence[str], restarts: int = 0) -> int:
    """Runs ``engine ARGUMENTS`` in ``nproc`` processes on this machine by torch's elastic launcher.

    If one fails, all are restarted, up to ``restarts`` times. Returns the exit status: 0, that of the
    rank that failed first, or 1 after a signal.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // nproc)))
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=nproc,
        run_id=str(uuid.uuid4()),
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=restarts,
    )
    try:
        # -P: never import Python files from the working directory.
        elastic_launch(config, sys.executable)("-P", "-m", "engine.cli", *arguments)
    except ChildFailedError as error:
        _, failure = error.get_first_failure()
        return failure.exitcode if failure.exitcode > 0 else 1
    except (SignalException, KeyboardInterrupt):
        return 1
    return 0
