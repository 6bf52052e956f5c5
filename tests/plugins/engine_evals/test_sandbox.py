"""Programs that attack: none passes, none harms. Programs that are right pass."""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from textwrap import dedent

import pytest
from engine_evals import sandbox as sandbox_module
from engine_evals.harness import decode, encode
from engine_evals.sandbox import Limits, Outcome, Program, Sandbox
from hypothesis import given
from hypothesis import strategies as st

from engine import RunError

SMALL = Limits(wall=4, cpu=1, memory=1 << 28, folder=1 << 22, processes=4)
MARK = json.dumps({"status": "passed", "detail": ""})


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    try:
        return Sandbox(limits=SMALL)
    except RunError as error:
        pytest.skip(f"no sandbox here: {error}")


def run(sandbox: Sandbox, code: str, tests: str = "assert f() == 1") -> Outcome:
    return sandbox.run(Program(dedent(code), dedent(tests), ("f",)))


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
        return code.replace("<checkout>", str(Path(__file__).parents[3])).replace("<mark>", MARK)

    def check(self) -> None:
        """Nothing has been harmed."""
        assert self.secret.read_text(encoding="utf-8") == "unharmed"
        assert os.listdir(self.folder) == ["secret"]
        assert self.connections == []
        os.kill(self.victim, 0)
        stuck = _harnesses()
        deadline = time.monotonic() + 10
        while stuck and time.monotonic() < deadline:
            time.sleep(0.05)
            stuck &= _harnesses()
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


def _harnesses() -> set[int]:
    found = set()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if b"/harness.py" in command:
            found.add(int(process.name))
    return found


ATTACKS = {
    "endless loop": """
        def f():
            while True: pass
        """,
    "endless loop that will not be told": """
        import signal
        def f():
            signal.signal(signal.SIGXCPU, signal.SIG_IGN)
            while True: pass
        """,
    "endless sleep": "import time; time.sleep(1000)",
    "endless output": """
        def f():
            while True: print("x" * 100_000)
        """,
    "fork bomb": """
        import os, time
        made = 0
        def f():
            global made
            try:
                while True:
                    if os.fork() == 0: time.sleep(1000)
                    made += 1
            except OSError:
                return 1 if made > 4 else made
        """,
    "fork bomb whose children fork": """
        import os
        def f():
            while True:
                try: os.fork()
                except OSError: pass
        """,
    "memory": """
        def f():
            return len(bytearray(1 << 30)) and 1
        """,
    "memory in small pieces": """
        def f():
            kept = []
            while len(kept) < 1000: kept.append(bytes(1 << 20))
            return 1
        """,
    "one big file": """
        def f():
            with open("big", "wb") as out:
                for _ in range(64): out.write(bytes(1 << 20))
            return 1
        """,
    "many files": """
        def f():
            for i in range(64):
                with open(f"file-{i}", "wb") as out: out.write(bytes(1 << 20))
            return 1
        """,
    "files in every folder but its own": """
        import os
        def f():
            for folder, _, _ in os.walk("/"):
                if folder.startswith("/tmp"): continue
                try:
                    with open(f"{folder}/file", "wb") as out: out.write(b"x")
                    return 1
                except OSError: pass
        """,
    "many open files": """
        def f():
            kept = [open("/dev/null") for _ in range(100)]
            return 1
        """,
    "loopback": """
        import socket
        def f():
            socket.create_connection(("127.0.0.1", <port>), 1)
            return 1
        """,
    "a socket with no file": """
        import socket
        def f():
            socket.socket(socket.AF_UNIX).connect("\\0canary-<port>")
            return 1
        """,
    "network": """
        import socket
        def f():
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b"x", ("192.0.2.1", 53))
            return 1
        """,
    "interfaces": """
        import socket
        def f():
            return [name for _, name in socket.if_nameindex()] != ["lo"]
        """,
    "reading outside": """
        def f():
            return open("<secret>").read() and 1
        """,
    "seeing the checkout": """
        import os
        def f():
            return 1 if os.path.exists("<checkout>") or os.path.exists("/etc/passwd") else 0
        """,
    "processes of the host": """
        import os
        def f():
            return 1 if os.listdir("/proc") else 0
        """,
    "writing outside": """
        def f():
            open("<secret>", "w").write("harmed")
            return 1
        """,
    "writing beside": """
        def f():
            open("<folder>/new", "w").write("harmed")
            return 1
        """,
    "symlink out of its folder": """
        import os
        def f():
            os.symlink("<secret>", "link")
            open("link", "a").write("harmed")
            return 1
        """,
    "symlinked folder": """
        import os
        def f():
            os.symlink("<folder>", "link")
            open("link/new", "w").write("harmed")
            return 1
        """,
    "killing a process of the host": """
        import os
        def f():
            os.kill(<victim>, 9)
            return 1
        """,
    "killing its parent": """
        import os
        def f():
            os.kill(os.getppid(), 9)
            return 1
        """,
    "killing all": """
        import os
        def f():
            os.kill(-1, 9)
            return 1
        """,
    "becoming root": """
        import os
        def f():
            os.setuid(0)
            return 1
        """,
    "user namespace": """
        import ctypes
        def f():
            return 1 if ctypes.CDLL(None).unshare(0x10000000) == 0 else 0
        """,
    "other namespaces": """
        import ctypes
        def f():
            kinds = (0x20000, 0x20000000, 0x40000000, 0x4000000, 0x8000000)
            return 1 if any(ctypes.CDLL(None).unshare(kind) == 0 for kind in kinds) else 0
        """,
    "mounting": """
        import ctypes
        def f():
            return 1 if ctypes.CDLL(None).mount(b"none", b"/tmp", b"tmpfs", 0, None) == 0 else 0
        """,
    "tracing the tests": """
        import ctypes, os
        def f():
            return 1 if ctypes.CDLL(None).ptrace(16, os.getppid(), 0, 0) == 0 else 0
        """,
    "sys.exit before the tests": "import sys; sys.exit(0)",
    "sys.exit in a test": """
        def f():
            raise SystemExit(0)
        """,
    "os._exit before the tests": "import os; os._exit(0)",
    "os._exit in a test": """
        import os
        def f(): os._exit(0)
        """,
    "printing the success mark": """
        import os, sys
        print('<mark>')
        sys.stdout.flush()
        sys.exit(0)
        """,
    "writing the success mark everywhere": """
        import os
        for number in range(64):
            try: os.write(number, b'<mark>\\n')
            except OSError: pass
        os._exit(0)
        """,
    "answers before they are asked": """
        import os
        for number in range(64):
            try: os.write(number, b'["tuple", [{"list": [false, null]}]]\\n' * 100)
            except OSError: pass
        def f(): return 0
        """,
    "equal to everything": """
        class Same:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            __class__ = int
        def f(): return Same()
        """,
    "a number equal to everything": """
        class Same(int):
            def __eq__(self, other): return True
            __hash__ = int.__hash__
        def f(): return Same(5)
        """,
    "patched builtins": """
        import builtins, sys
        builtins.AssertionError = builtins.compile = builtins.abs = lambda *a: None
        sys.modules["__main__"].judge = lambda *a: ("passed", "")
        def f(): return 0
        """,
    "patched modules": """
        import builtins, json
        builtins.isinstance = lambda *a: True
        json.loads = json.dumps = lambda *a: '{"status": "passed", "detail": ""}'
        def f(): return 0
        """,
    "reading the tests": """
        import gc, os, sys
        def f():
            for thing in gc.get_objects():
                if "".join(["assert f", "() =="]) in repr(thing): return 1
            return 1 if sys.stdin.read() else 0
        """,
    "an answer without end": """
        def f():
            return "x" * 10_000_000
        """,
    "an answer that holds itself": """
        def f():
            answer = []
            answer.append(answer)
            return answer
        """,
}


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_neither_passes_nor_harms(sandbox, outside, attack):
    """It is over within the limits, and what is outside is as it was."""
    start = time.monotonic()
    outcome = run(sandbox, outside.fill(ATTACKS[attack]))
    assert not outcome.passed, outcome
    assert time.monotonic() - start < SMALL.wall + 2
    if attack.startswith("endless"):
        assert outcome.status == ("crashed" if "told" in attack else "timeout"), outcome
    outside.check()


def test_the_attacks_reach_for_something_real(outside):
    """Without a sandbox the same reading, connecting and writing would succeed."""
    code = "".join(
        dedent(outside.fill(ATTACKS[name])).replace("def f", f"def f{i}")
        for i, name in enumerate(("reading outside", "loopback", "a socket with no file"))
    )
    done = subprocess.run([sys.executable, "-c", f"{code}\nassert f0() == f1() == f2() == 1"])
    assert done.returncode == 0
    assert stat.S_IMODE(outside.secret.stat().st_mode) == 0o666


def test_a_program_sees_a_small_folder_only_for_itself(sandbox):
    """It may write there; the next program finds nothing."""
    code = """
        import os
        def f():
            seen = len(os.listdir("."))
            open("mine", "w").write("x")
            return seen + len(os.listdir(".")) if os.getuid() else 0
        """
    assert run(sandbox, code).passed
    assert run(sandbox, code).passed


def test_nothing_is_left_when_the_engine_is_killed(sandbox):
    """What runs in a sandbox dies with whoever started it."""
    before = _harnesses()
    script = (
        "from engine_evals.sandbox import *; "
        "Sandbox().run(Program('import time; time.sleep(1000)', '', ()))"
    )
    engine = subprocess.Popen([sys.executable, "-c", script])
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and len(_harnesses() - before) < 2:
        time.sleep(0.1)
    time.sleep(1)  # past the trial run
    mine = _harnesses() - before
    assert mine
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    while time.monotonic() < deadline and mine & _harnesses():
        time.sleep(0.1)
    for left in mine & _harnesses():
        os.kill(left, signal.SIGKILL)
        pytest.fail(f"process {left} is left")
    assert not mine & _harnesses()


@pytest.mark.parametrize(
    ("code", "tests"),
    [
        ("def f(x): return x", "assert f(3) == 3 and f('ä') == 'ä' and f(None) is None"),
        ("def f(n): return 10 ** n", "assert f(6000) == 10 ** 6000"),
        ("def f(): return float('nan'), float('inf')", "a, b = f(); assert a != a and b > 1e308"),
        ("def f(n): yield from range(n)", "assert list(f(3)) == [0, 1, 2]; assert next(f(1)) == 0"),
        ("def f(x): return lambda y: x + y", "assert f(1)(2) == 3"),
        ("def f(g, x): return [g(v) for v in x]", "assert f(len, ['a', 'bc']) == [1, 2]"),
        (
            "from collections import namedtuple\nP = namedtuple('P', 'x y')\ndef f(): return P(1, 2)",
            "assert f() == (1, 2)",
        ),
        (
            "class f:\n  def __init__(self, v): self.v, self.next = v, None\n"
            "  def total(self): return self.v + (self.next.total() if self.next else 0)",
            "a = f(1); a.next = f(2); a.next.next = f(3); assert a.total() == 6 and a != f(1)",
        ),
        (
            "from dataclasses import dataclass\n@dataclass\nclass f:\n  x: 'int' = 0",
            "assert f(1) == f(1) and f(1) != f(2)",
        ),
        (
            "def f(x):\n  if x < 0: raise ValueError('negative')",
            "try: f(-1)\nexcept ValueError as error: assert str(error) == 'negative'\n"
            "else: assert False",
        ),
        ("def f(): return {1: 2}.keys()", "assert set(f()) == {1} and len(f()) == 1 and 1 in f()"),
        ("def f(): return []", "assert not f()"),
    ],
)  # fmt: skip
def test_a_right_program_passes(sandbox, code, tests):
    """Whatever its functions take and give."""
    assert run(sandbox, code, tests) == Outcome("passed")


def test_a_wrong_program_fails_and_says_how(sandbox):
    """By a wrong value, an error, a syntax error, or a missing function."""
    assert run(sandbox, "def f(): return 2") == Outcome("failed", "AssertionError: ")
    assert run(sandbox, "def f(): return 1 / 0").detail == "ZeroDivisionError: division by zero"
    assert "SyntaxError" in run(sandbox, "def f(:").detail
    assert run(sandbox, "def g(): return 1").status == "failed"


def test_programs_run_together_come_back_in_order(sandbox):
    """Each outcome belongs to its program."""
    programs = [Program(f"def f(): return {i % 3}", "assert f() == 1", ("f",)) for i in range(12)]
    found = [outcome.passed for outcome in sandbox.run_all(programs)]
    assert found == [i % 3 == 1 for i in range(12)]


def test_without_a_sandbox_nothing_runs_unless_allowed(monkeypatch, tmp_path):
    """The error says how to mend it; the tier says what was done, and verdicts stay the same."""
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no namespaces here >&2; exit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    monkeypatch.setattr(sandbox_module, "_bubblewraps", lambda: [str(broken)])
    with pytest.raises(RunError, match=r"no namespaces here.*install.*allow_unsandboxed"):
        Sandbox()
    bare = Sandbox(allow_unsandboxed=True, limits=SMALL)
    assert bare.tier == "unsandboxed"
    assert run(bare, "def f(): return 1").passed
    for attack in ("endless loop", "memory", "os._exit before the tests", "equal to everything"):
        assert not run(bare, ATTACKS[attack]).passed


PLAIN = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.complex_numbers(allow_nan=False)
    | st.text()
    | st.binary()
    | st.fractions()
    | st.decimals(allow_nan=False)
    | st.dates()
    | st.datetimes()
    | st.times()
    | st.timedeltas(),
    lambda inner: st.lists(inner) | st.lists(inner).map(tuple) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(PLAIN)
def test_values_travel_unchanged(value):
    """Through JSON and back: the same value, of the same type."""
    back = decode(json.loads(json.dumps(encode(value, list))), lambda kind, content: None)
    assert (back, type(back)) == (value, type(value))


@pytest.mark.parametrize(
    "value",
    [
        {1, 2}, frozenset({(1, 2)}), deque([1, 2]), Counter("abb"), OrderedDict(a=1), range(1, 9, 2),
        bytearray(b"x"), {(1, "a"): [Decimal("1.50")]}, [date(2024, 2, 29)], Fraction(1, 3), math.inf,
    ],
    ids=repr,
)  # fmt: skip
def test_collections_travel_unchanged(value):
    """The kinds that functions of benchmarks give, keys included."""
    back = decode(json.loads(json.dumps(encode(value, list))), lambda kind, content: None)
    assert (back, type(back)) == (value, type(value))
