"""Checks of data sources, and of executors of a corpus, whose processes import this module: light."""

from __future__ import annotations

import os
import platform
import re
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.contracts.config import Config
from engine.contracts.data import DataSource, Executor, Lost
from engine.contracts.records import Bad, Record, record_or_bad, record_to_row
from engine.testing.requirements import require, require_json

if TYPE_CHECKING:
    from engine.testing.standalone import StandAloneContext

_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_SIZE = 20
"""A part may give so many times the bytes that ``size`` says: it says about how many there are."""
_MOMENT = 1e-3
"""Seconds in which a clock goes on."""
_CALLS, _SECONDS = 200, 0.01
"""Calls of which the third raises, and how long each of the others takes."""
_PATIENCE = 3.0
"""Seconds that processes may take to end."""


def data_source(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Parts and records repeat, each part stands by itself, and records are what they say."""
    from engine.testing.elsewhere import elsewhere

    parts = list(new().parts())
    require(len(set(parts)) == len(parts), "the names of parts are unique")
    records = _read(new())
    require(records, "a source gives at least one record")
    _check_records(records, config.gives())  # type: ignore[attr-defined]
    ids = [record.id for record in records]
    require(len(set(ids)) == len(ids), "ids are unique")
    require(_read(new()) == records, "parts and records are always in the same order")
    source = new()
    apart = [list(source.records(part)) for part in reversed(parts)]
    require(
        [record for part in reversed(apart) for record in part] == records,
        "a part has the same records, whatever was read before",
    )
    again = [list(source.records(part)) for part in reversed(parts)]
    require(again == apart, "read once more, a part has the same records, as in the next epoch")
    for part, whole in zip(reversed(parts), apart, strict=True):
        pieces = [record for one in source.split(part) for record in source.records(one)]
        require(pieces == whole, "the parts that a part is split into are that part")
    require(
        _read_in_turns(new(), parts) == apart[::-1],
        "parts that are read in turns, a record of each at a time, do not disturb each other",
    )
    versions = [new().version(part) for part in parts]
    time.sleep(_MOMENT)
    require(
        [new().version(part) for part in parts] == versions,
        "version(part) stays the same while the part's content does",
    )
    for part, whole in zip(reversed(parts), apart, strict=True):
        _check_size(part, new().size(part), whole)
    for found in elsewhere(_told, "data-source", config, context):
        require(
            found == _told(new),
            "a new process reads the same parts and records in the same order; the order of a `set` of "
            "texts is another one in each process: sort it",
        )


def _read(source: DataSource) -> list[Record | Bad]:
    return [record for part in source.parts() for record in source.records(part)]


def _told(new: Callable[[], Any]) -> list[str]:
    return [repr(record) for record in _read(new())]


def _check_records(records: Sequence[Any], gives: str | None) -> None:
    for record in records:
        require(isinstance(record, Record | Bad), f"{record!r} is not a record")
        if isinstance(record, Bad):
            reason = record.reason
            require(_KEBAB.fullmatch(reason), f"the reason '{reason}' is not in kebab-case")
            continue
        if gives is not None:
            wrong = f"gives() says {gives}, but the source gives a {record.schema} record"
            require(record.schema == gives, wrong)
        row = {field.name: getattr(record, field.name) for field in fields(record)}
        made = record_or_bad(record.schema, row, id=record.id, source=record.source)
        wrong = f"record '{record.id}': {getattr(made, 'what', '')}"
        require(not isinstance(made, Bad), wrong)
        require_json(dict(record.meta), f"`meta` of record '{record.id}'")
    require(any(isinstance(record, Record) for record in records), "not every row is bad")


def _read_in_turns(source: DataSource, parts: Sequence[str]) -> list[list[Record | Bad]]:
    """The records of each part. Checks that a record does not change when the next is read."""
    found: list[list[Record | Bad]] = [[] for _ in parts]
    told: list[tuple[Record | Bad, str]] = []
    reading = {number: iter(source.records(part)) for number, part in enumerate(parts)}
    while reading:
        for number, records in list(reading.items()):
            record = next(records, None)
            if record is None:
                del reading[number]
            else:
                found[number].append(record)
                told.append((record, repr(record)))
    for record, before in told:
        require(
            repr(record) == before,
            f"a record stays what it was when the next is read: {before} became {record!r}",
        )
    return found


def _check_size(part: str, size: int | None, records: Sequence[Record | Bad]) -> None:
    if size is None:
        return
    rows = [record_to_row(record) for record in records if isinstance(record, Record)]
    values = [str(v) for row in rows for k, v in row.items() if k not in ("schema", "id", "source")]
    has = sum(len(value.encode(errors="replace")) for value in values)
    require(
        isinstance(size, int) and size >= 0 and has <= _SIZE * size + 100,
        f"size('{part}') says {size!r} bytes of text, but the part has {has}",
    )


def executor(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Each task is carried out once, what a call raises comes back, and so does a lost call."""
    made: Executor = new()
    places: set[tuple[str, int]] = set()
    try:
        for tasks in (list(range(20)), [], [3]):
            found = sorted(made.run(str, tasks))
            wanted = [(number, str(task)) for number, task in enumerate(tasks)]
            require(found == wanted, "a result for each task, with its number")
        pair = list(made.run(_pair, [3]))
        require(pair == [(0, _pair(3))], f"results come back as they are: {_pair(3)}, not {pair}")
        _check_errors(made)
        require(sorted(made.run(str, [1])) == [(0, "1")], "it goes on after an error")
        places = {place for _, place in made.run(_place, [0, 1])}  # type: ignore[misc]
        here = _place(0) in places
        require(
            not (made.isolated and here),
            "calls in the engine's own process take it with them: set isolated = False",
        )
        if made.isolated:
            _check_losses(made)
    finally:
        made.close()
    end = time.monotonic() + _PATIENCE
    others = {number for host, number in places - {_place(0)} if host == platform.node()}
    while (left := list(filter(_lives, others))) and time.monotonic() < end:
        time.sleep(0.01)
    require(not left, f"close() ends its processes; {left} still run")


def _check_errors(made: Executor) -> None:
    with tempfile.TemporaryDirectory() as folder:
        list(made.run(partial(_noted, folder), [5, 6]))
        calls = sorted(name.partition("-")[0] for name in os.listdir(folder))
        require(calls == ["5", "6"], f"each of the tasks 5 and 6 is carried out once, not {calls}")
    with tempfile.TemporaryDirectory() as folder:
        raised: Exception | None = None
        try:
            list(made.run(partial(_noted, folder), list(range(_CALLS))))
        except Exception as error:  # a plugin's class may raise anything
            raised = error
        require(
            isinstance(raised, ValueError),
            f"run() raises what the function raises, a ValueError, not {raised!r}",
        )
        require(
            len(os.listdir(folder)) < _CALLS,
            f"after an error it begins no further call; it carried out all of {_CALLS}",
        )


def _check_losses(made: Executor) -> None:
    try:
        found: list[tuple[int, Any]] = list(made.run(_ending, [0, 1, 2]))
    except Exception as error:  # a plugin's class may raise anything
        found = [(1, error)]
    found.sort(key=lambda pair: pair[0])
    right = [number for number, _ in found] == [0, 1, 2] and found[::2] == [(0, 0), (2, 2)]
    require(
        right and isinstance(found[1][1], Lost),
        f"a call whose process dies gives a Lost, and other calls their results; not {found}",
    )


def _pair(task: int) -> tuple[int, dict[int, bytes]]:
    return task, {task: bytes(task)}


def _noted(folder: str, task: int) -> None:
    """Notes each call in a folder; raises at task 2."""
    Path(folder, f"{task}-{os.urandom(8).hex()}").touch()
    if task == 2:
        raise ValueError("the third")
    if task > 2:
        time.sleep(_SECONDS)


def _ending(task: int) -> int:
    """Ends its process at task 1."""
    if task == 1:
        os._exit(1)
    return task


def _place(task: int) -> tuple[str, int]:
    return platform.node(), os.getpid()


def _lives(process: int) -> bool:
    """Whether a process of this machine runs; one that has ended may wait for its parent to ask."""
    try:
        about = Path(f"/proc/{process}/stat").read_text(encoding="ascii", errors="replace")
    except OSError:
        return False
    return about.rpartition(")")[2].split()[0] not in "ZX"
