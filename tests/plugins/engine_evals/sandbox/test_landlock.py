"""What the second tier keeps a process from, and what it does not."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from engine_evals import interpreter, landlock, seccomp
from engine_evals.sandbox import Sandbox

from engine import RunError

HEADERS = {
    1: ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"__NR_(\w+)\s+(\d+)"),
    2: ("/usr/include/asm-generic/unistd.h", r"__NR(?:3264)?_(\w+)\s+(\d+)"),
}


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
        start = "from engine_evals.landlock import *; restrict({'read': READ, 'work': WORK}); "
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


def test_a_program_has_no_calls_but_the_listed_ones(second, run):
    """No process, thread, program, socket, shared memory, tracing, namespace: ENOSYS for each."""
    header = Path(HEADERS[1][0])
    if os.uname().machine != "x86_64" or not header.is_file():
        pytest.skip(f"no {header}")
    numbers = dict(re.findall(HEADERS[1][1], header.read_text(encoding="utf-8")))
    listed = {call.split()[0] for call in seccomp.CALLS.split(",")}
    absent = {name: int(number) for name, number in numbers.items() if name not in listed}
    assert {
        "fork", "vfork", "clone", "clone3", "execve", "execveat", "socket", "socketpair", "connect",
        "unshare", "setns", "mount", "chroot", "ptrace", "process_vm_readv", "process_vm_writev",
        "pidfd_open", "pidfd_getfd", "pidfd_send_signal", "rt_sigqueueinfo", "tkill", "setsid",
        "setpgid", "prctl", "seccomp", "keyctl", "add_key", "bpf", "io_uring_setup", "userfaultfd",
        "perf_event_open", "memfd_create", "shmget", "msgget", "semget", "mq_open", "ioctl",
        "unlink", "unlinkat", "rename", "renameat2", "link", "linkat", "symlink", "mkdir", "mknod",
        "chmod", "fchmod", "fchmodat", "chown", "utimensat", "setxattr", "truncate", "openat2",
        "open_by_handle_at", "inotify_init1", "fanotify_init", "setpriority", "sched_setaffinity",
        "setrlimit", "setuid", "personality",
    } <= absent.keys()  # fmt: skip
    code = f"""
        import ctypes
        def f():
            libc = ctypes.CDLL(None, use_errno=True)
            there = []
            for name, number in {absent}.items():
                if libc.syscall(number, 0, 0, 0, 0, 0, 0) != -1 or ctypes.get_errno() != {errno.ENOSYS}:
                    there.append(name)
            return there
        """
    outcome = run(second, code, "assert f() == [], f()")
    assert outcome.passed, outcome


@pytest.mark.parametrize("column", HEADERS)
def test_the_calls_numbers_are_the_kernels(column):
    """On either machine."""
    header, pattern = HEADERS[column]
    if not Path(header).is_file():
        pytest.skip(f"no {header}")
    numbers = dict(re.findall(pattern, Path(header).read_text(encoding="utf-8")))
    numbers.setdefault("newfstatat", numbers.get("fstatat", ""))
    for call in seccomp.CALLS.split(","):
        name, number = call.split()[0], call.split()[column]
        assert number == numbers.get(name, "-"), name


def test_another_machines_calls_end_the_process(second, run):
    """A 64-bit kernel would take a 32-bit call, whose numbers mean other things."""
    if os.uname().machine != "x86_64":
        pytest.skip("int 0x80 is x86's")
    code = """
        import ctypes, mmap
        def f():
            page = mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
            page.write(b"\\xb8\\x14\\x00\\x00\\x00\\xcd\\x80\\xc3")  # mov eax, getpid; int 0x80; ret
            start = ctypes.addressof(ctypes.c_char.from_buffer(page))
            return 1 if ctypes.CFUNCTYPE(ctypes.c_int)(start)() else 1
        """
    assert run(second, code).status == "crashed"


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
