"""Faulty steps over a corpus."""

from __future__ import annotations

import json
import random
from functools import partial
from zlib import crc32

import pyarrow as pa
from support.faults.fault import Planted, with_other_hashes

from engine import Config, CorpusStep, Text
from engine.testing import processed

DOCUMENTS = [
    Text(id=f"d{n:02d}", source="kit", text=f"{n * 7 % 5} old towns have bridges over rivers")
    for n in range(15)
]


class Unique(Config):
    """Drops copies of a document but the first."""


planted = Planted("corpus-step", Unique)


def keyed(documents):
    texts = documents.column("text").to_pylist()
    return _with_keys(documents, [crc32(text.encode()) for text in texts])


def _with_keys(documents, keys):
    address = documents.select(["part", "row", "id"])
    return address.append_column("key", pa.array(keys, pa.uint64()))


def copies(rows, rule="copy", reverse=False):
    ordered = sorted(rows.to_pylist(), key=lambda row: row["id"], reverse=reverse)
    seen, dropped = set(), []
    for row in ordered:
        if row["key"] in seen:
            dropped.append(row)
        seen.add(row["key"])
    return _dropped(dropped, rule)


def _dropped(rows, rule):
    return pa.table(
        {
            "part": pa.array([row["part"] for row in rows], pa.int32()),
            "row": pa.array([row["row"] for row in rows], pa.int64()),
            "drop": pa.array([rule] * len(rows), pa.string()),
        }
    )


@planted.right
class FirstOfCopies(CorpusStep):
    """Right."""

    keyed, copies = staticmethod(keyed), staticmethod(copies)

    def __init__(self, config, context):
        pass

    def run(self, corpus):
        rows = corpus.map(type(self).keyed, corpus.documents)
        return corpus.map(type(self).copies, corpus.shuffle(rows, "key"))

    def summary(self, found):
        return {"copies": sum(table.num_rows for table in found)}


def outcome(make):
    """What becomes of a corpus, in two runs."""
    return [str(processed(make(), DOCUMENTS)) for _ in range(2)]


def in_parts(make):
    """What becomes of it in other numbers of parts."""
    return [str(processed(make(), DOCUMENTS, parts=parts)) for parts in (1, 3, 4)]


def refused_for_records(make):
    """Whether a train stage refuses it, as it must one that replaces texts."""
    left = [d for d in processed(make(), DOCUMENTS) if not isinstance(d, str)]
    return [any(d not in DOCUMENTS for d in left), make.config().changes_texts()]


def card(make):
    """What the data card says, of two tables."""
    table = pa.table({"id": ["a", "b"], "source": ["s"] * 2, "drop": ["copy"] * 2})
    return json.dumps(make().summary(iter([table, table])))


def on_two_machines(make):
    """What Python processes with other hashes make of the corpus."""
    return with_other_hashes(outcome, make)


@planted.fault(in_parts, "however the documents are divided into parts")
class LooksIntoOnePart(FirstOfCopies):
    """It finds copies within a part only."""

    def run(self, corpus):
        return corpus.map(copies, corpus.map(keyed, corpus.documents))


def short_key(documents):
    first = documents.column("part").to_pylist()
    texts = documents.column("text").to_pylist()
    keys = [crc32(f"{part} {text}".encode()) for part, text in zip(first, texts, strict=True)]
    return _with_keys(documents, keys)


@planted.fault(in_parts, "however the documents are divided into parts")
class PartInTheKey(FirstOfCopies):
    """Keys are of the text and the part's number."""

    keyed = staticmethod(short_key)


def random_copies(rows):
    ordered = rows.to_pylist()
    random.shuffle(ordered)
    seen, dropped = set(), []
    for row in ordered:
        if row["key"] in seen:
            dropped.append(row)
        seen.add(row["key"])
    return _dropped(dropped, "copy")


@planted.fault(outcome, "the same documents have the same outcome")
class AnyOfCopies(FirstOfCopies):
    """It keeps any of several copies."""

    copies = staticmethod(random_copies)


@planted.fault(outcome, "is not in kebab-case")
class RuleInCapitals(FirstOfCopies):
    """The rule's name is no name of a rule."""

    def run(self, corpus):
        rows = corpus.map(keyed, corpus.documents)
        return corpus.map(partial(copies, rule="Copy Of"), corpus.shuffle(rows, "key"))


def hashed_copies(rows):
    ordered = sorted(rows.to_pylist(), key=lambda row: hash(row["id"]))
    seen, dropped = set(), []
    for row in ordered:
        if row["key"] in seen:
            dropped.append(row)
        seen.add(row["key"])
    return _dropped(dropped, "copy")


@planted.fault(on_two_machines, "in a new process the same documents")
class KeepsTheLeastHash(FirstOfCopies):
    """It keeps the copy whose id has the least hash, which is another one in each process."""

    copies = staticmethod(hashed_copies)


_seen: set[int] = set()


def new_copies(rows):
    dropped = [row for row in rows.to_pylist() if row["key"] in _seen or _seen.add(row["key"])]
    return _dropped(dropped, "copy")


@planted.fault(outcome, "the same documents have the same outcome")
class RemembersTheLastCorpus(FirstOfCopies):
    """Keys seen stay in the module."""

    copies = staticmethod(new_copies)


def places(rows):
    found = copies(rows).to_pylist()
    return _dropped([{**row, "row": number} for number, row in enumerate(found)], "copy")


@planted.fault(in_parts, "however the documents are divided into parts")
class NumbersWhatItFound(FirstOfCopies):
    """It gives the place in its own table for the document's."""

    copies = staticmethod(places)


def marked(rows):
    found = copies(rows).drop(["drop"])
    text = pa.array(["a copy"] * found.num_rows, pa.large_string())
    return found.append_column("text", text)


@planted.fault(refused_for_records, "it replaces texts, so changes_texts()")
class ReplacesTexts(FirstOfCopies):
    """It replaces texts, and its configuration does not say so."""

    copies = staticmethod(marked)


@planted.fault(in_parts, "however the documents are divided into parts")
class LimitByParts(FirstOfCopies):
    """How many documents it drops depends on the number of parts."""

    def run(self, corpus):
        if corpus.documents.parts > 2:
            rows = corpus.shuffle(corpus.map(keyed, corpus.documents), "key")
            return corpus.map(partial(copies, reverse=True), rows)
        return super().run(corpus)


@planted.fault(card, "what summary() gives")
class SummaryOfASet(FirstOfCopies):
    """Its summary has a set, which JSON does not take."""

    def summary(self, found):
        return {"copies": {name for table in found for name in table.column("id").to_pylist()}}


@planted.fault(card, "summary() is the same, however")
class SummaryOfOneTable(FirstOfCopies):
    """Its summary counts the first table only."""

    def summary(self, found):
        return {"copies": next(found).num_rows}


def named_copies(rows, names):
    found = copies(rows).to_pylist()
    return _dropped([row for row in found if row["part"] < len(names)], "copy")


@planted.fault(in_parts, "however the documents are divided into parts")
class FirstPartOnly(FirstOfCopies):
    """It drops copies in the first part only."""

    def run(self, corpus):
        rows = corpus.shuffle(corpus.map(keyed, corpus.documents), "key")
        return corpus.map(partial(named_copies, names=["one"]), rows)
