"""Faulty data sources."""

from __future__ import annotations

import random
import time
from datetime import date
from itertools import count

from support.faults.fault import Planted, kit, with_other_hashes

from engine import Bad, DataSource, DataSourceConfig, Text
from engine.data.corpus.parts import records_in, table_of

PARTS = ("north", "south", "west", "east", "coast", "hills", "isles")
ROWS = range(6)


class Towns(DataSourceConfig):
    """Texts of three regions."""

    def gives(self):
        return "text"


planted = Planted("data-source", Towns)


@planted.right
class Regions(DataSource):
    """Right."""

    def __init__(self, config, context):
        pass

    def parts(self):
        return PARTS

    def split(self, part):
        return [f"{part}:0", f"{part}:1"]

    def rows_of(self, part):
        name, _, half = part.partition(":")
        return name, {"": ROWS, "0": ROWS[:3], "1": ROWS[3:]}[half]

    def records(self, part):
        name, rows = self.rows_of(part)
        for n in rows:
            if (name, n) == ("west", 4):
                yield Bad(f"{name}-{n}", "no-text", "the row is empty")
            else:
                yield self.record(name, n)

    def record(self, name, n):
        text = f"town {n} of the {name} has {n * 97 % 13} bridges and a market in it"
        return Text(id=f"{name}-{n}", source="towns", text=text, meta={"n": n})

    def version(self, part):
        return "1"

    def size(self, part):
        return 55 * len(ROWS)


def read(make):
    """What a run reads, and once more in its second epoch."""
    source = make()
    return [str(r) for _ in range(2) for part in source.parts() for r in source.records(part)]


def in_two_runs(make):
    """What two runs of one process read."""
    return [read(make), read(make)]


def by_workers(make):
    """What workers read that have one part each."""
    return [str(record) for part in make().parts() for record in make().records(part)]


def in_any_order(make):
    """The parts, read the last first by one worker."""
    source = make()
    return [[str(record) for record in source.records(part)] for part in source.parts()[::-1]]


def in_turns(make):
    """The parts, read a record of each at a time, as a mixture does."""
    source = make()
    rows = zip(*(source.records(part) for part in source.parts()), strict=True)
    return [str(record) for row in rows for record in row]


def in_halves(make):
    """The parts by the halves in which a crash is looked for."""
    source = make()
    return [
        str(r) for p in source.parts() for half in source.split(p) for r in source.records(half)
    ]


def collected(make):
    """Records that are first collected and then used."""
    return [str(record) for record in [*make().records("north")]]


def stored(make):
    """The records as a corpus gives them back."""
    records = [r for p in make().parts() for r in make().records(p) if not isinstance(r, Bad)]
    return [(record.meta, len(record.meta)) for record in records_in(table_of(records))]


def encoded(make):
    """The tokens of a part."""
    tokenizer = kit().tokenizer()
    return [tokenizer.encode(record.text) for record in make().records("north")]


def planned(make):
    """What a preparation that goes on finds changed, and the disk that it needs."""
    source = make()
    before = [(source.version(part), source.size(part)) for part in source.parts()]
    time.sleep(0.002)
    return [before, [(make().version(part), make().size(part)) for part in source.parts()]]


def fits_an_objective(make):
    """Whether the records are what an objective was told to expect."""
    return [record.schema == make.config().gives() for record in make().records("north")]


def on_two_machines(make):
    """What Python processes with other hashes read."""
    return with_other_hashes(read, make)


@planted.fault(on_two_machines, "a new process reads the same parts")
class OrderOfASet(Regions):
    """The names of parts come from a set."""

    def parts(self):
        return list({*PARTS, "north"})


@planted.fault(read, "always in the same order")
class Shuffles(Regions):
    """It shuffles a part's records without a seed."""

    def records(self, part):
        rows = list(super().records(part))
        return iter(random.sample(rows, len(rows)))


@planted.fault(read, "ids are unique")
class NumbersRowsOfAPart(Regions):
    """Ids begin anew in each part."""

    def record(self, name, n):
        return Text(id=str(n), source="towns", text=f"town {n} of the {name}")


@planted.fault(by_workers, "whatever was read before")
class NumbersRowsInReadingOrder(Regions):
    """Ids are counted over the parts, so another worker gives others."""

    def __init__(self, config, context):
        self.number = count()

    def record(self, name, n):
        return Text(id=f"{next(self.number)}", source="towns", text=f"town {n} of the {name}")


@planted.fault(in_halves, "the parts that a part is split into are that part")
class HalvesOverlap(Regions):
    """Both halves have the record in the middle."""

    def rows_of(self, part):
        name, rows = super().rows_of(part)
        return name, range(2, 6) if part.endswith(":1") else rows


@planted.fault(read, "ids are unique")
class PartsOverlap(Regions):
    """Each part begins with the last record of the one before."""

    def records(self, part):
        before = PARTS.index(part.partition(":")[0]) - 1
        if before >= 0 and ":" not in part:
            yield self.record(PARTS[before], ROWS[-1])
        yield from super().records(part)


@planted.fault(read, "read once more, a part has the same records")
class ReadsOnce(Regions):
    """It keeps open iterators, which the second epoch finds at their end."""

    def __init__(self, config, context):
        self.open = {}

    def records(self, part):
        return self.open.setdefault(part, super().records(part))


_numbers = count()


@planted.fault(in_two_runs, "always in the same order")
class CountsInItsModule(Regions):
    """Ids come from a counter of the module."""

    def record(self, name, n):
        return Text(id=f"{next(_numbers)}", source="towns", text=f"town {n} of the {name}")


@planted.fault(stored, "preserves `meta` of record")
class MetaWithADate(Regions):
    """``meta`` has a date, which JSON does not have."""

    def record(self, name, n):
        return Text(id=f"{name}-{n}", source="towns", text="x", meta={"day": date(2020, 1, n + 1)})


@planted.fault(encoded, "field 'text' is bytes, not text")
class BytesForText(Regions):
    """Texts are bytes that nobody decoded."""

    def record(self, name, n):
        return Text(id=f"{name}-{n}", source="towns", text=f"town {n} of the {name}".encode())


@planted.fault(planned, "version(part) stays the same")
class VersionOfNow(Regions):
    """A part's version is the time of asking, so all is read anew each time."""

    def version(self, part):
        return str(time.time())


@planted.fault(planned, "bytes of text, but the part has")
class SizeInKilobytes(Regions):
    """A part's size is in kilobytes."""

    def size(self, part):
        return super().size(part) // 1000


@planted.fault(collected, "a record stays what it was")
class SharesOneMeta(Regions):
    """All records have the same ``meta``, which each changes."""

    meta: dict = {}  # noqa: RUF012 - the fault

    def record(self, name, n):
        self.meta["n"] = n
        return Text(id=f"{name}-{n}", source="towns", text=f"town {n}", meta=self.meta)


@planted.fault(in_turns, "do not disturb each other")
class OnePlaceForAllParts(Regions):
    """It reads with one position, which two parts read in turns move for each other."""

    def records(self, part):
        name, rows = self.rows_of(part)
        self.at = rows[0]
        while self.at <= rows[-1]:
            yield self.record(name, self.at)
            self.at += 1


@planted.fault(fits_an_objective, "gives() says chat")
class SaysChat(Towns):
    """It says that it gives conversations."""

    def gives(self):
        return "chat"
