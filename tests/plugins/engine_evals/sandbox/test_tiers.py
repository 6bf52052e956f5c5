"""Which tier is taken, and what is said where there is none."""

from __future__ import annotations

import os

import pytest
from engine_evals.sandbox import bubblewrap, cgroup, landlock
from engine_evals.sandbox.program import Outcome
from engine_evals.sandbox.sandbox import Sandbox

from engine import RunError


@pytest.fixture
def broken_bubblewrap(monkeypatch, tmp_path):
    """One that is there, and can make no namespaces."""
    broken = tmp_path / "bwrap"
    broken.write_text("#!/bin/sh\necho no namespaces here >&2; exit 1\n", encoding="utf-8")
    broken.chmod(0o755)
    monkeypatch.setattr(bubblewrap, "installed", lambda: [str(broken)])


@pytest.fixture
def no_landlock(monkeypatch):
    """A kernel of before Linux 6.2."""
    older = landlock.START.replace("main()", "main.__globals__['abi'] = lambda: 2; main()")
    monkeypatch.setattr(landlock, "START", older)


def test_bubblewrap_is_the_first_choice():
    """Where it works, nothing else is tried."""
    try:
        Sandbox(tiers=["bubblewrap"])
    except RunError as error:
        pytest.skip(f"no bubblewrap here: {error}")
    assert Sandbox().tier == "bubblewrap"


@pytest.mark.usefixtures("broken_bubblewrap")
def test_landlock_is_the_second_choice(run):
    """Where bubblewrap is there but does not work, or is not there."""
    try:
        Sandbox(tiers=["landlock"])
    except RunError as error:
        pytest.skip(f"no Landlock here: {error}")
    second = Sandbox()
    assert second.tier == "landlock"
    assert run(second, "def f(): return 1").passed


@pytest.mark.usefixtures("broken_bubblewrap", "no_landlock")
def test_without_a_sandbox_nothing_runs_unless_allowed(run, small, attacks):
    """The error says how to mend it; the tier says what was done, and verdicts stay the same."""
    with pytest.raises(RunError, match=r"no namespaces here.*install.*--allow code"):
        Sandbox()
    with pytest.raises(RunError, match=r"Landlock: .*ABI 3 \(Linux 6.2\) is needed.*version 2"):
        Sandbox()
    bare = Sandbox(allow_unsandboxed=True, limits=small)
    assert bare.tier == "unsandboxed"
    assert run(bare, "def f(): return 1").passed
    for attack in ("endless loop", "memory", "os._exit before the tests", "equal to everything"):
        assert not run(bare, attacks[attack]).passed


def stands_in(monkeypatch, tmp_path, told):
    """A systemd-run that starts commands, but says of its limits what it is told to."""
    script = tmp_path / "systemd-run"
    command = f'#!/bin/sh\nwhile [ $1 != -- ]; do shift; done\nshift\n{told}\nexec "$@"\n'
    script.write_text(command, encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("XDG_RUNTIME_DIR", "/run/user/0")


def test_a_limit_that_does_not_hold_is_missing(monkeypatch, tmp_path, sandbox):
    """systemd may take a limit that nobody enforces, or not be there: either is said."""
    stands_in(monkeypatch, tmp_path, 'case "$*" in *memory.max*) echo max max; exit;; esac')
    assert cgroup.limited(1 << 30, 16) == []
    assert "all memory together" in Sandbox(tiers=[sandbox.tier]).missing
    monkeypatch.setenv("PATH", "")
    assert cgroup.limited(1 << 30, 16) == []


def test_a_program_in_a_group_knows_nothing_of_who_made_it(
    monkeypatch, tmp_path, sandbox, small, run
):
    """It runs as without one; where systemd is reached stays outside."""
    told = f'case "$*" in *memory.max*) echo {small.together} {small.processes + 8}; exit;; esac'
    stands_in(monkeypatch, tmp_path, told)
    grouped = Sandbox(tiers=[sandbox.tier], limits=small)
    assert grouped.missing == ()
    code = "import os\ndef f(): return 1 if 'XDG_RUNTIME_DIR' not in os.environ else 0"
    assert run(grouped, code) == Outcome("passed")


def test_a_group_holds_for_all_processes_together(small, run):
    """Where systemd makes groups: three processes that are each within their limit are not all."""
    sandbox = Sandbox(limits=small, tiers=["bubblewrap", "landlock"])
    if sandbox.missing or sandbox.tier != "bubblewrap":
        pytest.skip(f"{sandbox.tier} has no limit on {sandbox.missing}")
    code = """
        import os, time
        def f():
            for _ in range(4):
                if os.fork() == 0:
                    kept = bytearray(b"x") * (small - (1 << 26))
                    time.sleep(2)
                    os._exit(0)
            return 1 if all(os.wait()[1] == 0 for _ in range(4)) else 0
        """
    assert not run(sandbox, code.replace("small", str(small.memory))).passed


def test_where_a_sandbox_gets_no_capability_files_are_not_counted(monkeypatch, small, run):
    """It is taken all the same, and says so."""
    whole = bubblewrap.confined
    monkeypatch.setattr(
        bubblewrap, "confined", lambda *given: ["false"] if given[-1] else whole(*given)
    )
    try:
        sandbox = Sandbox(limits=small, tiers=["bubblewrap"])
    except RunError as error:
        pytest.skip(f"no bubblewrap here: {error}")
    assert "the number of files" in sandbox.missing
    code = """
        import os
        def f():
            whole = os.statvfs(".")
            return 1 if whole.f_blocks * whole.f_bsize == 1 << 22 and os.getcwd() == "/tmp" else 0
        """
    assert run(sandbox, code) == Outcome("passed")
