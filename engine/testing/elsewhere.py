"""A second Python, in which the kit builds components once more: texts have other hashes there, and it
forks the ranks of a group.

    python -P -m engine.testing.elsewhere DESCRIPTOR

It starts once, imports what is slow to import, and forks for each look at a component. It ends with the
process that started it.
"""

from __future__ import annotations

import atexit
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from functools import cache
from multiprocessing.connection import Connection, Pipe
from pathlib import Path
from typing import Any, TypeVar

from engine.contracts.component import Kind
from engine.contracts.config import Config
from engine.testing.requirements import require
from engine.testing.standalone import StandAloneContext

T = TypeVar("T")
_PATIENCE = 200.0
"""Seconds after which ranks that have not ended are taken to wait for each other."""


def elsewhere(
    look: Callable[[Callable[[], Any]], T],
    kind: Kind,
    config: Config,
    context: StandAloneContext,
    *,
    ranks: int = 1,
) -> list[T]:
    """What ``look``, a function of a module, finds of the component in each process of a group.

    It is called with a function that builds the component. Finds nothing for a context of another
    class, which cannot be sent. Raises AssertionError with what a process raised.
    """
    if type(context) is not StandAloneContext:
        return []
    settings = config.model_dump(mode="json", exclude_none=True)
    pipe = _started()
    pipe.send(
        (sys.path, os.getcwd(), pickle.dumps(look), (kind, settings, replace(context)), ranks)
    )
    wrong, found = pipe.recv()
    require(not wrong, f"{'in a new process' if ranks == 1 else f'on {ranks} processes'}, {wrong}")
    return [pickle.loads(one) for one in found]


@cache
def _started() -> Connection:
    ours, theirs = Pipe()
    hashes = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.testing.elsewhere", str(theirs.fileno())],
        pass_fds=[theirs.fileno()],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": hashes,
            "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
        },
    )
    theirs.close()

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _main(pipe: Connection) -> None:
    import transformers.models.llama.modeling_llama  # noqa: F401 - slow to import

    while True:
        try:
            sys.path[:], here, look, arguments, ranks = pipe.recv()
        except EOFError:
            return
        os.chdir(here)
        pickle.loads(look)  # imports the module of the kit, but no plugin
        with tempfile.TemporaryDirectory() as folder:
            pipe.send(_of_ranks(Path(folder), look, arguments, ranks))


def _of_ranks(folder: Path, look: bytes, arguments: Any, ranks: int) -> tuple[str, list[bytes]]:
    """What is wrong, and what each rank finds; all end where one fails or the time is over."""
    running: dict[int, int] = {}
    for rank in range(ranks):
        child = os.fork()
        if child == 0:
            _rank(folder, look, arguments, rank, ranks)
        running[child] = rank
    end, failed = time.monotonic() + _PATIENCE, False
    while running and not failed and time.monotonic() < end:
        for child in list(running):
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                del running[child]
                failed |= status != 0
        time.sleep(0.005)
    for child in running:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    found = [folder / f"{rank}.found" for rank in range(ranks)]
    if all(file.exists() for file in found):
        return "", [file.read_bytes() for file in found]
    for file in sorted(folder.glob("*.raised")):
        return f"rank {file.stem} raises {file.read_text(encoding='utf-8')}", []
    return "a rank ends its process" if failed else "ranks wait for each other without an end", []


def _rank(folder: Path, look: bytes, arguments: Any, rank: int, ranks: int) -> None:
    """Looks at the component as one rank, and ends the process."""
    try:
        kind, settings, context = arguments
        if ranks > 1:
            _join(folder / "group", rank, ranks)
        context = replace(context, rank=rank, world_size=ranks)
        config = context.config(kind, settings)
        found = pickle.loads(look)(lambda: context.component(kind, config))
        (folder / f"{rank}.found").write_bytes(pickle.dumps(found))
        os._exit(0)
    except BaseException as error:  # a plugin's class may raise anything
        told = f"{type(error).__name__}: {error}"
        (folder / f"{rank}.raised").write_text(told, encoding="utf-8")
        os._exit(1)


def _join(file: Path, rank: int, ranks: int) -> None:
    import torch
    import torch.distributed as dist

    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(ranks)}
    dist.init_process_group(
        "gloo",
        init_method=f"file://{file}",
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=_PATIENCE),
    )


if __name__ == "__main__":
    _main(Connection(int(sys.argv[1])))
