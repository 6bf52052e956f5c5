"""A seccomp filter that lets Python processes compute, but not affect other processes.

It is a list of allowed system calls, since every kernel adds new ones. Other calls fail with ENOSYS,
for which the C library often has a fallback. This excludes namespaces, mounts, tracing, keyrings, and
memory that RLIMIT_AS does not count (System V shared memory, ``memfd_create``, pages pinned in pipes).
``CALLS`` alone also excludes sockets, new processes, threads and programs, and removing, linking or
changing the mode of files. ``OF_A_NAMESPACE`` adds calls that are harmless if processes, network and
files are the program's own. See seccomp(2). The numbers are from Linux's ``asm/unistd_64.h`` and, for
aarch64, ``asm-generic/unistd.h``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from collections.abc import Iterable, Iterator

# Name, number on x86_64, number on aarch64; "-" where a machine has no such call.
CALLS = """
read 0 63, write 1 64, readv 19 65, writev 20 66, pread64 17 67, pwrite64 18 68, lseek 8 62,
open 2 -, openat 257 56, close 3 57, dup 32 23, dup2 33 -, dup3 292 24, pipe 22 -, pipe2 293 59,
fcntl 72 25, ftruncate 77 46, getdents64 217 61, getcwd 79 17, stat 4 -, lstat 6 -, fstat 5 80,
newfstatat 262 79, statx 332 291, access 21 -, faccessat 269 48, faccessat2 439 439,
readlink 89 -, readlinkat 267 78, select 23 -, pselect6 270 72, poll 7 -, ppoll 271 73,
mmap 9 222, munmap 11 215, mprotect 10 226, mremap 25 216, madvise 28 233, brk 12 214,
rt_sigaction 13 134, rt_sigprocmask 14 135, rt_sigreturn 15 139, sigaltstack 131 132,
rt_sigtimedwait 128 137, rt_sigpending 127 136, rt_sigsuspend 130 133, pause 34 -,
restart_syscall 219 128, alarm 37 -, setitimer 38 103, getitimer 36 102, kill 62 129,
tgkill 234 131, wait4 61 260, exit 60 93, exit_group 231 94, futex 202 98, sched_yield 24 124,
nanosleep 35 101, clock_nanosleep 230 115, clock_gettime 228 113, clock_getres 229 114,
gettimeofday 96 169, time 201 -, times 100 153, getrusage 98 165, prlimit64 302 261,
sched_getaffinity 204 123, getrandom 318 278, uname 63 160, getpid 39 172, getppid 110 173,
gettid 186 178, getuid 102 174, geteuid 107 175, getgid 104 176, getegid 108 177
"""
OF_A_NAMESPACE = """
clone 56 220, fork 57 -, vfork 58 -, execve 59 221, waitid 247 95, set_tid_address 218 96,
set_robust_list 273 99, rseq 334 293, arch_prctl 158 -, prctl 157 167, ioctl 16 29,
getpgrp 111 -, getpgid 121 155, setpgid 109 154, getsid 124 156, setsid 112 157,
getgroups 115 158, getresuid 118 148, getresgid 120 150, unlink 87 -, unlinkat 263 35,
rename 82 -, renameat 264 38, renameat2 316 276, mkdir 83 -, mkdirat 258 34, rmdir 84 -,
chmod 90 -, fchmod 91 52, fchmodat 268 53, utimensat 280 88, truncate 76 45, fallocate 285 47,
chdir 80 49, fchdir 81 50, umask 95 166, fsync 74 82, fdatasync 75 83, flock 73 32, msync 26 227,
statfs 137 43, fstatfs 138 44, socketpair 53 199, sendto 44 206, recvfrom 45 207, shutdown 48 210,
getsockname 51 204, getsockopt 55 209, epoll_create1 291 20, epoll_ctl 233 21, epoll_wait 232 -,
epoll_pwait 281 22, listxattr 194 11, llistxattr 195 12
"""
_MACHINES = {"x86_64": (0xC000003E, 1), "aarch64": (0xC00000B7, 2)}
"""By machine: its AUDIT_ARCH, and its column above."""

_LOAD, _EQUAL, _ANY_BIT, _RETURN = 0x20, 0x15, 0x45, 0x06  # BPF's operations
_NUMBER, _ARCH, _ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data
_KILL, _ERROR, _ALLOW = 0x80000000, 0x00050000, 0x7FFF0000
_PR_SET_SECCOMP, _FILTER = 22, 2

# Other fcntl commands are dangerous: F_SETOWN and F_SETSIG can send any signal to any process.
_F_DUPFD_TO_F_SETLKW, _F_DUPFD_CLOEXEC = range(8), 1030
_TMPFILE = os.O_TMPFILE & ~os.O_DIRECTORY
_NEW_NAMESPACES = 0x7E020000
_AF_UNIX = 1
_RLIMIT_CORE = 4
# PR_SET_PDEATHSIG, PR_GET_DUMPABLE, PR_SET_NAME, PR_GET_NAME
_PRCTLS = (1, 3, 15, 16)
# TCGETS, FIONREAD, FIONBIO, FIONCLEX, FIOCLEX: what Python asks of files and pipes. No TIOCSTI.
_IOCTLS = (0x5401, 0x541B, 0x5421, 0x5450, 0x5451)

_Code = tuple[int, int, int, int]


class _Instruction(ctypes.Structure):
    _fields_ = (
        ("code", ctypes.c_ushort),
        ("if_true", ctypes.c_ubyte),
        ("if_false", ctypes.c_ubyte),
        ("value", ctypes.c_uint),
    )


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(_Instruction)))


def restrict(signalled: Iterable[int] | None) -> None:
    """Permanently restricts this thread to the calls above, and to signalling processes with these ids.

    ``None`` means that it has its own namespace, and may signal all processes there. Needs
    ``no_new_privs``. Raises OSError where the kernel or machine does not support it.
    """
    machine = platform.machine()
    if machine not in _MACHINES:
        raise OSError(errno.ENOSYS, f"no seccomp filter for {machine}, only {', '.join(_MACHINES)}")
    code = list(_program(*_MACHINES[machine], signalled))
    program = _Program(len(code), (_Instruction * len(code))(*(_Instruction(*c) for c in code)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_SECCOMP, _FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp cannot be used")


def _program(arch: int, column: int, signalled: Iterable[int] | None) -> Iterator[_Code]:
    """The filter's code, which kills a process that uses another architecture's calls."""
    yield from (_load(_ARCH), (_EQUAL, 1, 0, arch), _return(_KILL), _load(_NUMBER))
    with_argument = {
        "prlimit64": [*_but(1, _RLIMIT_CORE), *_one_of(0, [0])],  # one's own
        "fcntl": _one_of(1, (*_F_DUPFD_TO_F_SETLKW, _F_DUPFD_CLOEXEC)),
        "open": _without(1, _TMPFILE),  # the size of an unnamed file could not be measured
        "openat": _without(2, _TMPFILE),
        "clone": _without(0, _NEW_NAMESPACES),
        "socketpair": _one_of(0, [_AF_UNIX]),
        "prctl": _one_of(0, _PRCTLS),
        "ioctl": _one_of(1, _IOCTLS),
        # ENOTSUP makes shutil skip extended attributes; ENOSYS would make it fail.
        "listxattr": [_return(_ERROR | errno.ENOTSUP)],
        "llistxattr": [_return(_ERROR | errno.ENOTSUP)],
    }
    calls = CALLS.split(",")
    if signalled is None:
        calls += OF_A_NAMESPACE.split(",")
    else:
        with_argument |= dict.fromkeys(("kill", "tgkill"), _one_of(0, signalled))
    for call in calls:
        name, number = call.split()[0], call.split()[column]
        if number != "-":
            then = with_argument.get(name, [_return(_ALLOW)])
            yield from ((_EQUAL, 0, len(then), int(number)), *then)
    yield _return(_ERROR | errno.ENOSYS)


def _one_of(argument: int, values: Iterable[int]) -> list[_Code]:
    """Code that allows a call whose argument is one of the values; the kernel uses its low 32 bits."""
    tests = [code for value in values for code in ((_EQUAL, 0, 1, value), _return(_ALLOW))]
    return [_load(_ARGUMENTS + 8 * argument), *tests, _return(_ERROR | errno.EPERM)]


def _but(argument: int, value: int) -> list[_Code]:
    """Code that denies a call whose argument is the value; the following code decides on others."""
    return [_load(_ARGUMENTS + 8 * argument), (_EQUAL, 0, 1, value), _return(_ERROR | errno.EPERM)]


def _without(argument: int, bits: int) -> list[_Code]:
    """Code that allows a call whose argument has none of the bits; the kernel uses its low 32 bits."""
    refuse = ((_ANY_BIT, 0, 1, bits), _return(_ERROR | errno.EPERM))
    return [_load(_ARGUMENTS + 8 * argument), *refuse, _return(_ALLOW)]


def _load(offset: int) -> _Code:
    return _LOAD, 0, 0, offset


def _return(value: int) -> _Code:
    return _RETURN, 0, 0, value
