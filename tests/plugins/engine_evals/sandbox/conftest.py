"""Sandboxes of either tier, and what programs in them may reach for outside."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from textwrap import dedent

import pytest
import yaml
from engine_evals.sandbox import confinement, landlock
from engine_evals.sandbox.program import Limits, Outcome, Program
from engine_evals.sandbox.sandbox import Sandbox

from engine import RunError

ATTACKS = Path(__file__).with_name("attacks.yaml")
MARK = json.dumps({"status": "passed", "detail": ""})


@pytest.fixture(scope="session")
def attacks() -> dict[str, str]:
    """Programs by name; each comes to ``f() == 1`` if it has its way."""
    return yaml.safe_load(ATTACKS.read_text(encoding="utf-8"))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with an ``attack`` is run with each."""
    if "attack" in metafunc.fixturenames:
        names = yaml.safe_load(ATTACKS.read_text(encoding="utf-8"))
        metafunc.parametrize("attack", names)


@pytest.fixture(scope="session")
def small() -> Limits:
    return Limits(wall=4, cpu=1, memory=1 << 28, folder=1 << 22, processes=4)


@pytest.fixture(scope="package", params=["bubblewrap", "landlock"])
def sandbox(request: pytest.FixtureRequest, small: Limits) -> Sandbox:
    """One of each tier that can be had here."""
    try:
        return Sandbox(limits=small, tiers=[request.param])
    except RunError as error:
        pytest.skip(f"no {request.param} here: {error}")


@pytest.fixture(scope="session")
def run() -> Callable[..., Outcome]:
    """Runs a program whose function is ``f``."""

    def one(sandbox: Sandbox, code: str, tests: str = "assert f() == 1") -> Outcome:
        return sandbox.run(Program(dedent(code), dedent(tests), ("f",)))

    return one


@dataclass
class Outside:
    """What an attack may reach for: open to every user of this machine, but not from inside."""

    folder: Path
    port: int
    victim: int
    connections: list[object] = field(default_factory=list)

    @property
    def secret(self) -> Path:
        return self.folder / "secret"

    def fill(self, code: str) -> str:
        """The code with this machine's particulars in it."""
        for name in ("folder", "secret", "port", "victim"):
            code = code.replace(f"<{name}>", str(getattr(self, name)))
        return code.replace("<checkout>", str(Path(__file__).parents[4])).replace("<mark>", MARK)

    def check(self) -> None:
        """Nothing has been harmed."""
        assert self.secret.read_text(encoding="utf-8") == "unharmed"
        assert stat.S_IMODE(self.secret.stat().st_mode) == 0o666
        assert self.secret.stat().st_mtime > 0
        assert os.listdir(self.folder) == ["secret"]
        assert self.connections == []
        os.kill(self.victim, 0)
        stuck = running()
        deadline = time.monotonic() + 10
        while stuck and time.monotonic() < deadline:
            time.sleep(0.05)
            stuck &= running()
        assert not stuck


@pytest.fixture
def outside() -> Iterator[Outside]:
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o777)
    (folder / "secret").write_text("unharmed", encoding="utf-8")
    (folder / "secret").chmod(0o666)
    victim = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    with socket.create_server(("127.0.0.1", 0)) as tcp, socket.socket(socket.AF_UNIX) as unix:
        port = tcp.getsockname()[1]
        unix.bind(f"\0canary-{port}")
        unix.listen()
        found = Outside(folder, port, victim.pid)
        for server in (tcp, unix):
            threading.Thread(target=_accept, args=(server, found), daemon=True).start()
        yield found
        for server in (tcp, unix):
            server.shutdown(socket.SHUT_RDWR)  # ends its thread
    assert victim.poll() is None
    victim.kill()
    victim.wait()
    shutil.rmtree(folder)


def _accept(server: socket.socket, outside: Outside) -> None:
    while True:
        try:
            connection, _ = server.accept()
        except OSError:
            return
        connection.close()
        outside.connections.append(server)


@pytest.fixture
def sandboxed_processes() -> Callable[[], set[int]]:
    return running


def running() -> set[int]:
    """The ids of all processes that are in a sandbox."""
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if confinement.START.encode() in command or landlock.START.encode() in command:
            found.add(int(process.name))
    return found
