"""What runs inside the sandbox: the candidate in one process, its tests in another.

Run by the sandbox's Python (stdlib only), with the limits as JSON in its last argument and the
program as JSON on stdin; it writes the outcome as JSON to stdout.

The candidate's code lives in a child process, forked before the program is read. The tests live in
the parent and hold stand-ins for the candidate's functions: a call travels to the child as JSON,
its value travels back as JSON, and the parent compares. So the verdict never passes through the
candidate's hands, and these cannot turn it: leaving early (``sys.exit``, ``os._exit``), printing
anything, patching builtins or modules, values that call themselves equal to everything, reading
the harness's frames or memory for a secret (there is none, and the tests are not there either).
The child holds no descriptor but its two pipes, and neither can be traced.

What it does not withstand: functions that look their answers up (the prompt shows some of them).
What it asks of tests: arguments go by value, so a change that the candidate makes to one is not
seen; functions made by the tests cannot be passed. Objects of the candidate's own classes stay
with it, and the tests hold stand-ins for them, too; a stand-in never equals a plain value.
"""

from __future__ import annotations

import builtins
import ctypes
import json
import os
import resource
import signal
import sys
import types
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from fractions import Fraction
from typing import Any, NoReturn

PARTS: dict[type, Callable[[Any], list[Any]]] = {
    datetime: lambda d: [d.year, d.month, d.day, d.hour, d.minute, d.second, d.microsecond],
    date: lambda d: [d.year, d.month, d.day],
    time: lambda t: [t.hour, t.minute, t.second, t.microsecond],
    timedelta: lambda t: [t.days, t.seconds, t.microseconds],
    complex: lambda z: [z.real, z.imag],
    Decimal: lambda d: [str(d)],
    Fraction: lambda f: [f.numerator, f.denominator],
    range: lambda r: [r.start, r.stop, r.step],
    bytes: lambda b: [list(b)],
    bytearray: lambda b: [list(b)],
    Counter: lambda d: [dict(d)],
    OrderedDict: lambda d: [list(d.items())],
    dict: lambda d: [list(d.items())],
    list: lambda s: [s[:]],
    tuple: lambda s: [list(s)],
    deque: lambda s: [list(s)],
    set: lambda s: [list(s)],
    frozenset: lambda s: [list(s)],
}
"""The arguments that make each kind of value again; subclasses travel as the kind they extend."""
KINDS = {kind.__name__: kind for kind in PARTS}

PR_SET_DUMPABLE = 4


class Gone(BaseException):
    """The candidate's process has ended; no test may catch this as an error of the program's."""


class Remote:
    """The tests' stand-in for something in the candidate's process."""

    __slots__ = ("_link", "_number")
    __hash__ = object.__hash__

    def __init__(self, link: Link, number: int) -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls it there."""
        return self._link.ask(self, *args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        return self._link.ask(getattr, self, name)

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.ask(setattr, self, name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Remote) and self.__getattr__("__eq__")(other) is True

    def __bool__(self) -> bool:
        return self._link.ask(bool, self) is True

    def __len__(self) -> int:
        return self._link.ask(len, self)

    def __getitem__(self, key: Any) -> Any:
        return self.__getattr__("__getitem__")(key)

    def __next__(self) -> Any:
        return self._link.ask(next, self)

    def __iter__(self) -> Any:
        iterator = self._link.ask(iter, self)
        while True:
            try:
                yield next(iterator)
            except StopIteration:
                return


def encode(value: Any, refer: Callable[[Any], list[Any]]) -> Any:
    """A value as JSON; ``refer`` says what stands for one that cannot travel."""
    if value is None or type(value) in (bool, int, float, str):
        return value
    for kind, parts in PARTS.items():
        if isinstance(value, kind):
            return [kind.__name__, [_encode_part(part, refer) for part in parts(value)]]
    for plain in (int, float, str):
        if isinstance(value, plain):
            return plain(value)
    return refer(value)


def _encode_part(part: Any, refer: Callable[[Any], list[Any]]) -> Any:
    if type(part) is list:
        return {"list": [encode(value, refer) for value in part]}
    return encode(part, refer)


def decode(data: Any, find: Callable[[str, Any], Any]) -> Any:
    """The value that :func:`encode` has put into JSON; ``find`` undoes ``refer``."""
    if isinstance(data, dict):
        return [decode(value, find) for value in data["list"]]
    if not isinstance(data, list):
        return data
    kind, content = data
    if kind in KINDS:
        return KINDS[kind](*(decode(part, find) for part in content))
    return find(kind, content)


class Link:
    """The tests' end of the pipes."""

    def __init__(self, child: int, requests: int, replies: int, longest: int) -> None:
        self._child = child
        self._requests = open(requests, "w", encoding="utf-8")  # noqa: SIM115
        self._replies = open(replies, encoding="utf-8")  # noqa: SIM115
        self._longest = longest
        self.end: tuple[str, str] | None = None

    def ask(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """What the function gives in the candidate's process. Raises its error, or Gone."""
        call = json.dumps(encode([function, args, kwargs], _refer))
        try:
            self._requests.write(call + "\n")
            self._requests.flush()
            line = self._replies.readline(self._longest)
        except (OSError, ValueError):
            line = ""
        if not line.endswith("\n"):
            self._leave("an answer is too long" if line else "it ended before its tests")
        failed, value = decode(json.loads(line), self._find)
        if failed:
            kind, text = value
            error = getattr(builtins, kind, None)
            known = isinstance(error, type) and issubclass(error, Exception)
            raise error(text) if known else RuntimeError(f"{kind}: {text}")
        return value

    def _find(self, kind: str, content: Any) -> Remote:
        if kind != "remote":
            raise TypeError("the program's answer is no value")
        return Remote(self, content)

    def _leave(self, why: str) -> NoReturn:
        if self.end is None:
            os.kill(self._child, signal.SIGKILL)  # changes nothing where it has ended
            code = os.waitstatus_to_exitcode(os.waitpid(self._child, 0)[1])
            self.end = "timeout" if code == -signal.SIGXCPU else "crashed", why
        raise Gone


def _refer(value: Any) -> list[Any]:
    if isinstance(value, Remote):
        return ["remote", object.__getattribute__(value, "_number")]
    name = getattr(value, "__name__", "")
    if vars(builtins).get(name) is value:
        return ["builtin", name]
    raise TypeError(f"tests cannot pass a {type(value).__name__} to the program")


def serve(requests: int, replies: int) -> None:
    """The candidate's process: does what it is asked, until the tests are over."""
    module = types.ModuleType("candidate")
    sys.modules["candidate"] = module  # where dataclasses look for their module
    kept: list[Any] = [module.__dict__]

    def refer(value: Any) -> list[Any]:
        kept.append(value)
        return ["remote", len(kept) - 1]

    def find(kind: str, content: Any) -> Any:
        return kept[content] if kind == "remote" else vars(builtins)[content]

    with open(requests, encoding="utf-8") as lines, open(replies, "w", encoding="utf-8") as out:
        for line in lines:
            try:
                function, args, kwargs = decode(json.loads(line), find)
                reply = json.dumps(encode((False, function(*args, **kwargs)), refer))
            except Exception as error:
                reply = json.dumps(encode((True, (type(error).__name__, str(error)[:500])), refer))
            out.write(reply + "\n")
            out.flush()


def judge(job: dict[str, Any], link: Link) -> tuple[str, str]:
    """Runs the tests; the outcome's status and a word on it."""
    namespace: dict[str, Any] = {"__name__": "tests"}
    program = Remote(link, 0)
    try:
        link.ask(exec, job["code"], program)
        exec(compile(job["prelude"], "prelude", "exec"), namespace)
        namespace.update({name: program[name] for name in job["names"]})
        exec(compile(job["tests"], "tests", "exec"), namespace)
    except BaseException as error:
        return link.end or ("failed", f"{type(error).__name__}: {error}"[:500])
    return link.end or ("passed", "")


def main(confine: Callable[..., None] = lambda *signalled: None) -> None:
    """Limits, the two processes, the outcome.

    ``confine`` is called in either process before it runs a line of the program or its tests, with
    the ids of the processes that it may signal.
    """
    limits = json.loads(sys.argv[-1])
    longest = limits.pop("answer")
    for name, value in limits.items():
        # A second more before SIGKILL, so that SIGXCPU tells what happened.
        resource.setrlimit(getattr(resource, name), (value, value + (name == "RLIMIT_CPU")))
    sys.set_int_max_str_digits(0)
    requests, replies = os.pipe(), os.pipe()
    # Neither process is traced, nor does its memory go to what keeps cores outside.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    child = os.fork()
    nowhere = os.open(os.devnull, os.O_RDWR)
    if child == 0:
        # Above stdio nothing but the pipes' ends stays open, and stdio leads nowhere.
        for stream in (0, 1, 2):
            os.dup2(nowhere, stream)
        ours = os.dup2(requests[0], 10), os.dup2(replies[1], 11)
        os.closerange(3, 10)
        os.closerange(12, limits["RLIMIT_NOFILE"])
        confine(os.getpid())
        serve(*ours)
        os._exit(0)
    os.close(requests[0])
    os.close(replies[1])
    confine(os.getpid(), child)
    verdict = os.dup(1)
    os.dup2(nowhere, 1)  # tests may print
    link = Link(child, requests[1], replies[0], longest)
    status, detail = judge(json.load(sys.stdin), link)
    os.write(verdict, json.dumps({"status": status, "detail": detail}).encode())
    os.kill(child, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
