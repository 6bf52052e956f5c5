"""Which calls the filter leaves, in each tier and on each machine."""

from __future__ import annotations

import errno
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from engine_evals.sandbox import seccomp

HEADERS = {
    1: ("/usr/include/x86_64-linux-gnu/asm/unistd_64.h", r"__NR_(\w+)\s+(\d+)"),
    2: ("/usr/include/asm-generic/unistd.h", r"__NR(?:3264)?_(\w+)\s+(\d+)"),
}
ABSENT = {
    "clone3", "execveat", "socket", "connect", "unshare", "setns", "mount", "chroot", "ptrace",
    "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "pidfd_send_signal",
    "rt_sigqueueinfo", "tkill", "seccomp", "keyctl", "add_key", "request_key", "bpf",
    "io_uring_setup", "userfaultfd", "perf_event_open", "memfd_create", "shmget", "msgget", "semget",
    "mq_open", "link", "linkat", "symlink", "mknod", "chown", "setxattr", "openat2",
    "open_by_handle_at", "inotify_init1", "fanotify_init", "setpriority", "sched_setaffinity",
    "setrlimit", "setuid", "personality", "vmsplice", "splice",
}  # fmt: skip
ABSENT_FOR_ONE_PROCESS = {
    "fork", "vfork", "clone", "execve", "socketpair", "setsid", "setpgid", "prctl", "ioctl", "unlink",
    "unlinkat", "rename", "renameat2", "mkdir", "chmod", "fchmod", "fchmodat", "utimensat", "truncate",
}  # fmt: skip


def listed_in(tier):
    """The entries of a tier's list of calls."""
    more = seccomp.OF_A_NAMESPACE.split(",") if tier == "bubblewrap" else []
    return seccomp.CALLS.split(",") + more


def test_a_program_has_no_calls_but_the_listed_ones(sandbox, run):
    """No socket, shared memory, key, tracing, namespace: ENOSYS for each, and for many more."""
    header = Path(HEADERS[1][0])
    if os.uname().machine != "x86_64" or not header.is_file():
        pytest.skip(f"no {header}")
    numbers = dict(re.findall(HEADERS[1][1], header.read_text(encoding="utf-8")))
    listed = {call.split()[0] for call in listed_in(sandbox.tier)}
    absent = {name: int(number) for name, number in numbers.items() if name not in listed}
    assert absent.keys() >= ABSENT
    assert sandbox.tier == "bubblewrap" or absent.keys() >= ABSENT_FOR_ONE_PROCESS
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
    outcome = run(sandbox, code, "assert f() == [], f()")
    assert outcome.passed, outcome


@pytest.mark.parametrize("column", HEADERS)
def test_the_calls_numbers_are_the_kernels(column):
    """On either machine."""
    header, pattern = HEADERS[column]
    if not Path(header).is_file():
        pytest.skip(f"no {header}")
    numbers = dict(re.findall(pattern, Path(header).read_text(encoding="utf-8")))
    numbers.setdefault("newfstatat", numbers.get("fstatat", ""))
    for call in listed_in("bubblewrap"):
        name, number = call.split()[0], call.split()[column]
        assert number == numbers.get(name, "-"), name


def answer(machine, signalled, number, *arguments, arch=None):
    """What the filter of a machine makes of a call, worked out as the kernel does."""
    audited, column = seccomp._MACHINES[machine]
    words = {0: number, 4: arch or audited}
    words |= {16 + 8 * i: value & 0xFFFFFFFF for i, value in enumerate(arguments)}
    code = list(seccomp._program(audited, column, signalled))
    at = loaded = 0
    while True:
        operation, if_true, if_false, value = code[at]
        at += 1
        if operation == seccomp._RETURN:
            return value
        if operation == seccomp._LOAD:
            loaded = words[value]
        else:
            holds = loaded == value if operation == seccomp._EQUAL else loaded & value
            at += if_true if holds else if_false


@pytest.mark.parametrize("machine", seccomp._MACHINES)
def test_each_machines_filter_looks_at_what_calls_are_given(machine):
    """Allowed, denied (EPERM), absent (ENOSYS) or the end: also on the machine that this is not."""
    column = seccomp._MACHINES[machine][1]
    number = {call.split()[0]: call.split()[column] for call in listed_in("bubblewrap")}
    allow, denied = seccomp._ALLOW, seccomp._ERROR | errno.EPERM
    absent = seccomp._ERROR | errno.ENOSYS
    own = [7, 8]

    def alone(name, *arguments):
        return answer(machine, own, int(number[name]), *arguments)

    def among_its_own(name, *arguments):
        return answer(machine, None, int(number[name]), *arguments)

    assert alone("read") == among_its_own("read") == allow
    assert (alone("kill", 7), alone("kill", 9), alone("kill", -1)) == (allow, denied, denied)
    assert among_its_own("kill", 9) == allow
    assert alone("clone", 0x11) == alone("execve") == alone("unlinkat") == absent
    assert among_its_own("clone", 0x3D0F00) == among_its_own("clone", 0x11) == allow
    for bit in (0x20000, 0x02000000, 0x04000000, 0x08000000, 0x10000000, 0x20000000, 0x40000000):
        assert among_its_own("clone", bit | 0x11) == denied
    assert among_its_own("openat", 0, 0, os.O_RDWR | os.O_CREAT | os.O_DIRECTORY) == allow
    assert among_its_own("openat", 0, 0, os.O_TMPFILE | os.O_RDWR) == denied
    assert (among_its_own("ioctl", 0, 0x5401), among_its_own("ioctl", 0, 0x5412)) == (allow, denied)
    assert (alone("prlimit64", 0, 9), alone("prlimit64", 5, 9)) == (allow, denied)
    assert alone("prlimit64", 0, 4) == among_its_own("prctl", 4) == denied
    assert among_its_own("socketpair", 1) == allow
    assert among_its_own("socketpair", 2) == denied
    assert answer(machine, None, 0x40000000 | int(number["read"])) == absent
    assert answer(machine, None, int(number["read"]), arch=0x40000003) == seccomp._KILL


def test_another_machines_calls_end_the_process(sandbox, run):
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
    assert run(sandbox, code).status == "crashed"


@pytest.mark.parametrize("signalled", ["None", "[os.getpid()]"])
def test_numpy_runs_under_either_filter(signalled):
    """On several threads where there may be any."""
    threads = "2" if signalled == "None" else "1"
    code = f"""
import ctypes, os
from engine_evals.sandbox import seccomp
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
seccomp.restrict({signalled})
import numpy as np
a = np.random.default_rng(0).normal(size=(300, 300))
assert np.allclose(np.linalg.inv(a) @ a, np.eye(300))
np.save("/dev/null", np.sort(a))
"""
    env = {**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    done = subprocess.run([sys.executable, "-c", code], env=env, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
