"""What a program finds at its boundary, probe by probe: in each tier, as this user and as nobody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
import yaml
from engine_evals.sandbox import interpreter
from engine_evals.sandbox.program import Program
from engine_evals.sandbox.sandbox import Sandbox

from engine import RunError

CHECKOUT = Path(__file__).parents[4]
TIERS = ("bubblewrap", "landlock")
PROBES = yaml.safe_load(Path(__file__).with_name("probes.yaml").read_text(encoding="utf-8"))

# Of the calls that a probe makes by name: on x86_64, on aarch64.
NUMBERS = """
keyctl 250 219, add_key 248 217, request_key 249 218, shmget 29 194, shmat 30 196, shmctl 31 195,
msgget 68 186, semget 64 190, mq_open 240 180, memfd_create 319 279, memfd_secret 447 447,
vmsplice 278 75, splice 275 76, mlockall 151 230, timer_create 222 107, inotify_init1 294 26,
open_by_handle_at 304 265, clone 56 220, clone3 435 435, unshare 272 97, setns 308 268,
mount 165 40, umount2 166 39, open_tree 428 428, chroot 161 51, capset 126 91, prctl 157 167,
personality 135 92, ptrace 101 117, process_vm_readv 310 270, pidfd_open 434 434,
rt_sigqueueinfo 129 138, syslog 103 116, sysinfo 99 179, clock_settime 227 112,
socketpair 53 199, sendmsg 46 211, io_uring_setup 425 425, userfaultfd 323 282, bpf 321 280,
perf_event_open 298 241
"""

PROGRAM = """
import ctypes, errno, fcntl, mmap, os, platform, resource, signal, socket, sys

libc = ctypes.CDLL(None, use_errno=True)
numbers = dict(call.split(maxsplit=1) for call in <numbers>.split(","))
column = ["x86_64", "aarch64"].index(platform.machine())

def call(name, *arguments):
    given = libc.syscall(int(numbers[name].split()[column]), *arguments)
    if name == "clone" and given == 0: os._exit(0)
    return errno.errorcode[ctypes.get_errno()] if given < 0 else given

def raised(limit):
    hard = resource.getrlimit(limit)[1]
    resource.setrlimit(limit, (hard + 1, hard + 1))

def writable(top):
    found = []
    for folder, _, _ in os.walk(top):
        try:
            open(f"{folder}/file", "wb").close()
            found.append(folder)
        except OSError: pass
    return found

def still_open():
    found = []
    for number in range(64):
        try:
            os.fstat(number)
            found.append(number)
        except OSError: pass
    return found

def filled():
    try:
        for number in range(2000): open(f"empty-{number}", "w").close()
    finally:
        for name in os.listdir("."): os.remove(name)

def forks():
    made = []
    try:
        while len(made) < 20:
            made.append(os.fork())
            if made[-1] == 0: signal.pause()
    finally:
        for child in made:
            os.kill(child, signal.SIGKILL)
            os.wait()
    return len(made)

def denied(change):
    try: change()
    except PermissionError: return True
    except OSError as error: return error.errno == errno.EROFS or errno.errorcode[error.errno]

def one(expression):
    try: return eval(expression)
    except OSError as error: return errno.errorcode[error.errno]
    except Exception as error: return type(error).__name__

def f(): return [one(expression) for expression in <probes>]
"""

TESTS = """
import json
found = dict(zip(<names>, map(list, zip(f(), <expected>))))
raise ValueError(json.dumps({name: got for name, (got, due) in found.items() if got != due}))
"""

# Started by the user in question: it has a key in its session's keyring.
CALLER = """
import ctypes, json, os, sys
from engine_evals.sandbox import confinement
from engine_evals.sandbox.program import Limits, Program
from engine_evals.sandbox.sandbox import Sandbox
confinement.leave_keyring()
keyctl = confinement._KEYCTL[os.uname().machine]
ctypes.CDLL(None).syscall(keyctl - 2, b"user", b"engine-canary", b"secret", 6, -3)
os.environ["ENGINE_CANARY"] = "secret"
try: sandbox = Sandbox(limits=Limits(folder=1 << 22, memory=1 << 28), tiers=[sys.argv[1]])
except Exception as error: sys.exit(f"no tier: {error}")
programs = json.loads(sys.stdin.read().replace("<victim>", str(os.getpid())))
outcomes = sandbox.run_all([Program(**program) for program in programs])
print(json.dumps([outcome.detail for outcome in outcomes]))
"""


@pytest.fixture(scope="module", params=["this user", "nobody"])
def caller(request) -> Iterator[list[str]]:
    """The command by which a user starts Python: this one, or, where this is root, nobody.

    Its interpreter has packages beside it, and lies not below /tmp: the program's folder is there.
    """
    if request.param == "this user":
        yield [sys.executable]
        return
    if os.geteuid() != 0 or not shutil.which("setpriv"):
        pytest.skip("only root can become nobody, by setpriv")
    place = Path(tempfile.mkdtemp(dir="/var/tmp"))
    try:
        python, user = interpreter.copied(place), str(interpreter.NOBODY)
        (place / "lib" / Path(os.__file__).parent.name / "site-packages").mkdir()
        for path in (place, *place.rglob("*")):
            os.chown(path, interpreter.NOBODY, interpreter.NOBODY, follow_symlinks=False)
        yield ["setpriv", "--reuid", user, "--regid", user, "--clear-groups", str(python)]
    finally:
        shutil.rmtree(place)


@pytest.fixture(scope="module")
def environment() -> dict[str, str]:
    """Where another interpreter than ours finds the engine."""
    paths = [str(CHECKOUT), str(CHECKOUT / "plugins"), sysconfig.get_path("purelib")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "TMPDIR": "/var/tmp"}


@pytest.fixture(scope="module", params=TIERS)
def tried(request, caller, environment) -> tuple[str, dict[str, object]]:
    """The tier, and what came of each probe that did not come to what is expected there."""
    tier = request.param
    names = [name for name in PROBES if expected(name, tier) is not None]
    programs = [
        program(several, tier) for several in (names[i : i + 8] for i in range(0, len(names), 8))
    ]
    if subprocess.run([*caller, "-c", "import engine_evals"], env=environment, cwd="/").returncode:
        pytest.skip("the checkout is closed to nobody")
    done = subprocess.run(
        [*caller, "-c", CALLER, tier],
        input=json.dumps(programs),
        env=environment, cwd="/", text=True, capture_output=True,
    )  # fmt: skip
    if done.stderr.startswith("no tier"):
        pytest.skip(done.stderr)
    surprises: dict[str, object] = {}
    for detail in json.loads(done.stdout):
        assert detail.startswith("ValueError: {"), detail
        surprises |= json.loads(detail.removeprefix("ValueError: "))
    return tier, surprises


def program(names: Sequence[str], tier: str) -> dict[str, object]:
    """Tries these probes; its outcome's detail, which is short, holds those that surprise."""
    tries = [filled(PROBES[name]["try"]) for name in names]
    code = PROGRAM.replace("<numbers>", repr(NUMBERS)).replace("<probes>", repr(tries))
    tests = TESTS.replace("<names>", repr(names))
    tests = tests.replace("<expected>", repr([expected(name, tier) for name in names]))
    return {"code": code, "tests": tests, "names": ["f"]}


def expected(name: str, tier: str) -> object:
    """None where it is not tried."""
    return PROBES[name].get(tier, PROBES[name].get("both"))


def filled(expression: str) -> str:
    """With a file outside; the caller fills in itself."""
    return expression.replace("<secret>", __file__)


@pytest.mark.parametrize("name", PROBES)
def test_a_probe_comes_to_what_is_expected(tried, name):
    """By its table, which says beforehand what a program finds."""
    tier, surprises = tried
    if expected(name, tier) is None:
        pytest.skip(f"not tried under {tier}")
    assert surprises.get(name, "as expected") == "as expected"


def test_whoever_starts_a_program_leaves_its_keyring():
    """A key is found before, and not after: the session's keyring is another, and empty."""
    code = """
import ctypes, os
from engine_evals.sandbox import confinement
number = confinement._KEYCTL[os.uname().machine]
call = ctypes.CDLL(None).syscall
def found(): return call(number, 10, -3, b"user", b"engine-canary", 0) > 0
confinement.leave_keyring()
if call(number - 2, b"user", b"engine-canary", b"secret", 6, -3) < 0: raise SystemExit("none")
assert found()
confinement.leave_keyring()
assert not found()
"""
    done = subprocess.run([sys.executable, "-c", code], text=True, capture_output=True)
    if done.stderr.strip() == "none":
        pytest.skip("no keyrings here")
    assert done.returncode == 0, done.stderr


def test_a_folder_of_files_without_a_byte_is_full_under_landlock(small):
    """Each counts for a block."""
    try:
        sandbox = Sandbox(limits=small, tiers=["landlock"])
    except RunError as error:
        pytest.skip(f"no Landlock here: {error}")
    code = "def f():\n  for n in range(1 << 20): open(f'empty-{n}', 'w').close()\n  return 1"
    outcome = sandbox.run(Program(code, "assert f() == 1", ("f",)))
    assert outcome.detail == f"its files are over {small.folder} bytes"
