"""What the second tier keeps a process from, and what it does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys

import pytest
from engine_evals.sandbox import interpreter, landlock, seccomp
from engine_evals.sandbox.sandbox import Sandbox

from engine import RunError


@pytest.fixture(scope="module")
def second(small):
    try:
        return Sandbox(limits=small, tiers=["landlock"])
    except RunError as error:
        pytest.skip(f"no Landlock here: {error}")


@pytest.fixture
def restricted(tmp_path):
    """Runs code in a process that may read ``read``, write ``work``, and nothing else."""
    if landlock.abi() < landlock.OLDEST:
        pytest.skip(f"the kernel's Landlock has ABI {landlock.abi()}")
    for name in ("read", "work", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("unharmed", encoding="utf-8")

    def run(code: str) -> str:
        start = (
            "from engine_evals.sandbox.landlock import *; restrict({'read': READ, 'work': WORK}); "
        )
        return subprocess.run(
            [sys.executable, "-c", f"{start}\n{code}"], cwd=tmp_path, text=True, capture_output=True
        ).stderr

    return run


def test_what_is_not_granted_is_not_read_nor_written(restricted, tmp_path):
    """Nor emptied, linked, moved or removed, whoever the files belong to."""
    assert restricted("open('read/file').read(); os.listdir('read')") == ""
    assert restricted("open('work/new', 'w').write('x'); open('work/new').read()") == ""
    for denied in (
        "open('other/file')",
        "os.listdir('other')",
        "open('read/file', 'a')",
        "os.open('read/file', os.O_RDONLY | os.O_TRUNC)",
        "os.truncate('read/file', 0)",
        "os.remove('read/file')",
        "os.rename('other/file', 'work/moved')",
        "os.link('other/file', 'work/linked')",
        "os.remove('work/file')",
        "os.mkdir('work/folder')",
        "os.symlink('file', 'work/link')",
        "os.mkfifo('work/pipe')",
        "os.execv('/bin/true', ['true'])",
    ):
        assert re.search(r"PermissionError|Invalid cross-device link", restricted(denied)), denied
    for name in ("read", "work", "other"):
        assert (tmp_path / name / "file").read_text(encoding="utf-8") == "unharmed"


def test_an_older_kernel_is_refused(monkeypatch):
    """Before anything is given up: a file that may be read could be emptied there."""
    monkeypatch.setattr(landlock, "abi", lambda: 2)
    with pytest.raises(OSError, match=r"ABI 3 \(Linux 6.2\) is needed; the kernel has version 2"):
        landlock.restrict({})
    monkeypatch.setattr(landlock, "abi", lambda: 0)
    with pytest.raises(OSError, match="the kernel has none, or it is off"):
        landlock.restrict({})
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    with pytest.raises(OSError, match="no seccomp filter for riscv64, only x86_64, aarch64"):
        seccomp.restrict([])


def test_names_can_be_seen_where_users_may_look(second, run, outside):
    """What this tier does not hide: that a path exists, and how long a file is."""
    code = outside.fill("import os\ndef f(): return os.path.getsize('<secret>') == 8")
    assert run(second, code).passed


def test_whoever_cannot_reach_our_python_gets_a_copy():
    """Root's own Python may lie where the user that programs run as cannot go."""
    python, libraries = interpreter.reachable()
    for folder in libraries.parents:
        assert os.geteuid() != 0 or folder.stat().st_mode & 0o001
    assert not list(libraries.glob("python3*/site-packages")) or python.is_relative_to(
        sys.base_prefix
    )
    done = subprocess.run(
        [*interpreter.command(str(python)), "-c", "import sys, json, ctypes; print(sys.version)"],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == sys.version
