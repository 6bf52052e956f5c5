"""The sandbox's child process: runs a candidate program's tests, and the candidate in a fork.

Run by the sandbox's Python (stdlib only), with the limits as JSON in its last argument and the
program as JSON on stdin; it writes the outcome as JSON to stdout.

The candidate's code runs in its own process, forked before the program is read. The tests run in the
parent, with proxies for the candidate's functions: a call goes to the candidate as JSON, its value
comes back as JSON, and the parent compares. So the candidate cannot change the verdict by exiting early
(``sys.exit``, ``os._exit``), printing, patching builtins or modules, values that equal everything, or
reading this module's frames or memory (which hold neither a secret nor the tests). The candidate has no
file descriptors but its two pipes, and neither process can be traced.

It does not detect functions that look up their answers (the prompt shows some of them). Tests must
accept that arguments are passed by value, so a candidate's changes to them are not seen, and that the
tests' own functions cannot be passed. Objects of the candidate's classes stay with it, and tests get
proxies for them, too; a proxy never equals a plain value.
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
"""Arguments that rebuild each kind of value; subclasses are sent as the kind that they extend."""
KINDS = {kind.__name__: kind for kind in PARTS}

PR_SET_DUMPABLE = 4


class Gone(BaseException):
    """The candidate's process has ended. A BaseException, so that tests do not catch it."""


class Remote:
    """The tests' proxy for an object in the candidate's process."""

    __slots__ = ("_link", "_number")
    __hash__ = object.__hash__

    def __init__(self, link: Link, number: int) -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_number", number)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Calls the function in the candidate's process."""
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
        length: int = self._link.ask(len, self)
        return length

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
    """A value as JSON; ``refer`` gives a reference to a value that cannot be sent."""
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
    """The value that :func:`encode` encoded; ``find`` resolves the references of ``refer``."""
    if isinstance(data, dict):
        return [decode(value, find) for value in data["list"]]
    if not isinstance(data, list):
        return data
    kind, content = data
    if kind in KINDS:
        return KINDS[kind](*(decode(part, find) for part in content))
    return find(kind, content)


class Link:
    """The tests' end of the pipes to the candidate."""

    def __init__(self, candidate: int, requests: int, replies: int, longest: int) -> None:
        self._candidate = candidate
        self._requests = open(requests, "w", encoding="utf-8")  # noqa: SIM115
        self._replies = open(replies, encoding="utf-8")  # noqa: SIM115
        self._longest = longest
        self.end: tuple[str, str] | None = None

    def ask(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Calls the function in the candidate's process. Raises its error, or Gone."""
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
            if not (isinstance(error, type) and issubclass(error, Exception)):
                raise RuntimeError(f"{kind}: {text}")
            if error is StopIteration and function is not next:
                # `all(map(…))` in the tests would treat it as the end of their cases.
                raise RuntimeError(f"{kind}: {text}")
            raise error(text)
        return value

    def _find(self, kind: str, content: Any) -> Remote:
        if kind != "remote":
            raise TypeError("the program's answer is not a value")
        return Remote(self, content)

    def _leave(self, why: str) -> NoReturn:
        if self.end is None:
            os.kill(self._candidate, signal.SIGKILL)  # no effect if it has ended
            code = os.waitstatus_to_exitcode(os.waitpid(self._candidate, 0)[1])
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
    """Answers the tests' calls in the candidate's process, until the tests end."""
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
    """Runs the tests; returns the outcome's status and detail."""
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
    """Sets the limits, starts both processes and writes the outcome.

    ``confine`` is called in both processes before any line of the program or its tests, with the ids of
    the processes that it may signal.
    """
    limits = json.loads(sys.argv[-1])
    longest = limits.pop("answer")
    for name, value in limits.items():
        # One more second before SIGKILL, so that SIGXCPU shows the cause.
        resource.setrlimit(getattr(resource, name), (value, value + (name == "RLIMIT_CPU")))
    sys.set_int_max_str_digits(0)
    requests, replies = os.pipe(), os.pipe()
    # Neither process can be traced, or leave a core dump outside.
    ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    candidate = os.fork()
    nowhere = os.open(os.devnull, os.O_RDWR)
    if candidate == 0:
        # Of descriptors beyond stdio only the pipes stay open, and stdio goes to /dev/null.
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
    confine(os.getpid(), candidate)
    verdict = os.dup(1)
    os.dup2(nowhere, 1)  # tests may print
    link = Link(candidate, requests[1], replies[0], longest)
    status, detail = judge(json.load(sys.stdin), link)
    os.write(verdict, json.dumps([status, detail]).encode())
    os.kill(candidate, signal.SIGKILL)
    os._exit(0)


if __name__ == "__main__":
    main()
