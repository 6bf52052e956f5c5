"""Programs that are right pass, wrong ones fail, in either tier alike."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest
from engine_evals.sandbox.program import Outcome, Program
from engine_evals.sandbox.sandbox import Sandbox

from engine import RunError


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
def test_a_right_program_passes(sandbox, run, code, tests):
    """Whatever its functions take and give."""
    assert run(sandbox, code, tests) == Outcome("passed")


def test_a_wrong_program_fails_and_says_how(sandbox, run):
    """By a wrong value, an error, a syntax error, or a missing function."""
    assert run(sandbox, "def f(): return 2") == Outcome("failed", "AssertionError: ")
    assert run(sandbox, "def f(): return 1 / 0").detail == "ZeroDivisionError: division by zero"
    assert "SyntaxError" in run(sandbox, "def f(:").detail
    assert run(sandbox, "def g(): return 1").status == "failed"


def test_a_long_program_arrives_whole(sandbox, run):
    """As do its tests: beyond what a pipe holds at a time."""
    long = "# " + "x" * 200_000
    assert run(sandbox, f"{long}\ndef f(): return 1\n{long}", f"{long}\nassert f() == 1").passed


@pytest.mark.parametrize(
    "tests",
    [
        "assert all(map(lambda x: f(x) == x, [1, 2]))",
        "assert all(a == b for a, b in zip(map(f, [1, 2]), [1, 2]))",
    ],
)
def test_a_program_does_not_end_its_tests_early(sandbox, run, tests):
    """What would end an iterator of theirs is an error."""
    outcome = run(sandbox, "def f(x): raise StopIteration", tests)
    assert outcome == Outcome("failed", "RuntimeError: StopIteration: ")


TELL = """
import os
def tell(text):
    for number in range(3, 20):
        try: os.write(number, text)
        except OSError: pass
"""
WRITES = {
    "a word more": """tell(b'["passed", "", 1]'); os._exit(f())""",
    "names": """tell(b'{"status": "passed", "detail": "", "x": 1}'); os._exit(f())""",
    "no word": """tell(b'["great", ""]'); os._exit(f())""",
    "a list for a word": """tell(b'[["passed"], ""]'); os._exit(f())""",
    "lists in lists": """tell(b'[' * 100_000); os._exit(f())""",
    "no text": """tell(b'\\xff'); os._exit(f())""",
    "errors without end": "while True: os.write(2, bytes(65536))",
    "an outcome without end": "while True: tell(bytes(65536))",
}


@pytest.mark.parametrize("writes", WRITES)
def test_what_tests_write_is_limited(sandbox, run, small, writes):
    """They come with a row of data: whatever they write in place of their outcome is none, and as
    long as a file may be."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcome = run(
        Sandbox(limits=replace(small, wall=2), tiers=[sandbox.tier]),
        "def f(): return 1",
        TELL + WRITES[writes],
    )
    assert outcome.status in ("crashed", "failed", "timeout")
    assert len(outcome.detail) <= 500
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss < before + (100 << 10)  # kilobytes


def test_programs_run_together_come_back_in_order(sandbox):
    """Each outcome belongs to its program."""
    programs = [Program(f"def f(): return {i % 3}", "assert f() == 1", ("f",)) for i in range(12)]
    found = [outcome.passed for outcome in sandbox.run_all(programs)]
    assert found == [i % 3 == 1 for i in range(12)]


def test_a_program_sees_a_small_folder_only_for_itself(sandbox, run):
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


def test_what_programs_do_with_processes_threads_and_files_works_in_bubblewrap(run, small):
    """The filter of calls leaves the standard library what it needs."""
    try:
        sandbox = Sandbox(limits=small, tiers=["bubblewrap"])
    except RunError as error:
        pytest.skip(f"no bubblewrap here: {error}")
    code = """
        import asyncio, concurrent.futures, os, shutil, sqlite3, subprocess, sys, tempfile, threading
        def double(x): return 2 * x
        def f():
            found = subprocess.run([sys.executable, "-S", "-c", "print(3)"], capture_output=True).stdout
            thread = threading.Thread(target=os.mkdir, args=("made",))
            thread.start()
            thread.join()
            async def wait():
                await asyncio.sleep(0.01)
                process = await asyncio.create_subprocess_exec(sys.executable, "-S", "-c", "")
                return await process.wait()
            assert asyncio.run(wait()) == 0
            with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as file:
                file.write(b"x")
                with open(f"{folder}/a", "w") as out: out.write("x")
                shutil.copytree(folder, "made/b")
                os.rename("made/b/a", "made/c")
            with sqlite3.connect("file.db") as data:
                data.execute("create table t (x)")
                data.execute("insert into t values (1)")
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                assert [*pool.map(double, [1, 2])] == [2, 4]
            return int(found), sorted(os.listdir("made"))
        """
    assert run(sandbox, code, "assert f() == (3, ['b', 'c']), f()") == Outcome("passed")
