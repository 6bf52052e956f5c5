"""Which tier is taken, and what is said where there is none."""

from __future__ import annotations

import pytest
from engine_evals import bubblewrap, landlock
from engine_evals.sandbox import Sandbox

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
