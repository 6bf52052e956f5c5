"""Programs that attack: none passes, none harms."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
from engine_evals.sandbox import sandbox as sandbox_module
from engine_evals.sandbox.sandbox import Sandbox


def test_an_attack_neither_passes_nor_harms(sandbox, outside, run, small, attacks, attack):
    """It is ended, and what is outside is as it was."""
    if (sandbox.tier, attack) == ("landlock", "seeing the checkout"):
        pytest.skip("Landlock hides what is in files and folders, not that they are there")
    limits = small
    if "told" in attack:  # its two seconds of a processor may take long where others want it, too
        limits = replace(small, wall=16)
        sandbox = Sandbox(limits=limits, tiers=[sandbox.tier])
    outcome = run(sandbox, outside.fill(attacks[attack]))
    assert not outcome.passed, outcome
    if attack.startswith("endless"):
        assert outcome.status == ("crashed" if "told" in attack else "timeout"), outcome
    outside.check()


def test_the_attacks_reach_for_something_real(outside, attacks):
    """Without a sandbox the same reading, connecting and writing would succeed."""
    code = "".join(
        outside.fill(attacks[name]).replace("def f", f"def f{i}")
        for i, name in enumerate(("reading outside", "loopback", "a socket with no file"))
    )
    done = subprocess.run([sys.executable, "-c", f"{code}\nassert f0() == f1() == f2() == 1"])
    assert done.returncode == 0
    assert stat.S_IMODE(outside.secret.stat().st_mode) == 0o666


def test_a_disk_is_not_filled(sandbox, run, small, monkeypatch):
    """A folder over its limit ends the program at once, or writing fails there."""
    seen, size = [], sandbox_module._size
    monkeypatch.setattr(
        sandbox_module, "_size", lambda folder: seen.append(size(folder)) or seen[-1]
    )
    code = """
        def f():
            for number in range(1 << 20):
                with open(f"file-{number}", "wb") as out: out.write(bytes(1 << 18))
            return 1
        """
    outcome = run(sandbox, code)
    assert not outcome.passed
    if sandbox.tier == "landlock":
        assert outcome.detail == f"its files are over {small.folder} bytes"
        assert max(seen[:-1], default=0) <= small.folder < seen[-1]
    else:
        assert "No space left" in outcome.detail
        assert max(seen) == 0


def test_nothing_is_left_when_the_engine_is_killed(sandbox, sandboxed_processes, outside):
    """What runs in a sandbox dies with whoever started it."""
    before = sandboxed_processes()
    script = (
        "from engine_evals.sandbox.program import Program; "
        "from engine_evals.sandbox.sandbox import Sandbox; "
        f"Sandbox(tiers=['{sandbox.tier}']).run("
        "Program('import time; time.sleep(1000)', '', ()))"
    )
    # A killed engine leaves its temporary files, the fixture's folder takes them with it.
    env = {**os.environ, "TMPDIR": str(outside.folder)}
    engine = subprocess.Popen([sys.executable, "-c", script], env=env)
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and len(sandboxed_processes() - before) < 2:
        time.sleep(0.1)
    time.sleep(1)  # past the trial run
    mine = sandboxed_processes() - before
    assert mine
    engine.send_signal(signal.SIGKILL)
    engine.wait()
    while time.monotonic() < deadline and mine & sandboxed_processes():
        time.sleep(0.1)
    for left in mine & sandboxed_processes():
        os.kill(left, signal.SIGKILL)
        pytest.fail(f"process {left} is left")
    assert not mine & sandboxed_processes()


def test_a_crash_leaves_no_core(sandbox, sandboxed_processes, run):
    """A limit of 0 would leave one where the machine pipes cores to a program; 1 is for that."""
    before = sandboxed_processes()
    limits = set()
    code = "import time\ndef f():\n  time.sleep(1)\n  return 1"
    with ThreadPoolExecutor(1) as thread:
        outcome = thread.submit(run, sandbox, code)
        while not outcome.done():
            for process in sandboxed_processes() - before:
                with suppress(OSError):
                    told = Path(f"/proc/{process}/limits").read_text(encoding="utf-8")
                    limits |= {line.split()[4] for line in told.splitlines() if "core" in line}
            time.sleep(0.05)
    assert outcome.result().passed
    assert "1" in limits
    crash = "import ctypes\ndef f(): return ctypes.string_at(0)"
    assert run(sandbox, crash).status == "crashed"
