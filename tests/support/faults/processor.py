"""Faulty processors."""

from __future__ import annotations

import json
import random
import time
from collections import Counter

import numpy as np
import pyarrow as pa
from support.faults.fault import Planted, with_other_hashes

from engine import Config, Processor, Text, each
from engine.testing import processed

WORDS = "old towns have bridges over broad rivers where boats wait for grain and salt".split()
DOCUMENTS = [
    Text(id=f"d{n}", source="kit", text=" ".join(WORDS[(n * k + k) % 14] for k in range(2, 4 + n)))
    for n in (7, 2, 9, 0, 4, 11, 1, 6, 3, 10, 8, 5)
]


class Tidy(Config):
    """Drops short texts, collapses blanks, counts words."""

    def changes_texts(self):
        return True


planted = Planted("processor", Tidy)


class Columns(Processor):
    """Right: many documents at a time."""

    def texts(self, batch):
        return batch.column("text").to_pylist()

    def columns(self, batch):
        texts = self.texts(batch)
        drop = ["short" if len(text) < 20 else None for text in texts]
        tidy = [" ".join(text.split()) for text in texts]
        text = [new if new != old else None for new, old in zip(tidy, texts, strict=True)]
        return {
            "drop": pa.array(drop, pa.string()),
            "text": pa.array(text, pa.large_string()),
            "words": pa.array([len(text.split()) for text in texts], pa.int32()),
        }

    def summary(self, found):
        counts = Counter(n for table in found for n in table.column("words").to_pylist())
        return {"words": {str(n): counts[n] for n in sorted(counts)}}


@planted.right
class Tidies(Columns):
    """Right."""

    def __init__(self, config, context):
        pass


@planted.right
def tidy_one(config, context):
    """Right, document by document."""
    return each(_tidied)


def _tidied(document):
    tidy = " ".join(document.text.split())
    return "short" if len(tidy) < 20 else Text(id=document.id, source=document.source, text=tidy)


def outcome(make, documents=DOCUMENTS, **how):
    """What becomes of the documents, in two runs."""
    return [str(processed(make(), documents, **how)) for _ in range(2)]


def in_parts(make):
    """What becomes of them in parts, each of which another worker processes."""
    return outcome(make, parts=5)


def of_two_sources(make):
    """What becomes of the documents of two sources that number them alike."""
    made = make()
    other = [Text(id=d.id, source="other", text=d.text[::-1]) for d in DOCUMENTS[::-1]]
    other = [Text(id=DOCUMENTS[n].id, source="other", text=d.text) for n, d in enumerate(other)]
    return [str(processed(made, some)) for some in (DOCUMENTS, other)]


def of_odd_documents(make):
    """What becomes of documents without letters."""
    return outcome(
        make, [Text(id=f"o{n}", source="kit", text=t) for n, t in enumerate(("1 2", "\n"))]
    )


def card(make):
    """What the data card says, of two tables."""
    made = make()
    column = pa.array([3, 3, 4], pa.int32())
    tables = [pa.table({"id": ["a", "b", "c"], "source": ["s"] * 3, "words": column})] * 2
    return json.dumps(made.summary(iter(tables)))


def refused_for_records(make):
    """Whether a train stage refuses it, as it must one that replaces texts."""
    blanks = [Text(id="a", source="kit", text="a text  with two  blanks in it")]
    replaced = processed(make(), blanks) != blanks
    return [replaced, make.config().changes_texts()]


def on_two_machines(make):
    """What Python processes with other hashes make of the documents."""
    return with_other_hashes(outcome, make)


@planted.fault(outcome, "the same documents have the same outcome")
class DropsByChance(Tidies):
    """It keeps a random half."""

    def columns(self, batch):
        drop = [random.choice(["by-chance", None]) for _ in range(batch.num_rows)]
        return {"drop": pa.array(drop, pa.string())}


@planted.fault(outcome, "does not depend on other documents", of=tidy_one)
def drops_what_it_has_seen(config, context):
    """It drops a second document that begins like another."""
    seen = set()

    def first(document):
        start = document.text[:9]
        known, _ = start in seen, seen.add(start)
        return "seen" if known else document

    return each(first)


@planted.fault(outcome, "does not depend on other documents")
class ComparesWithTheBatch(Tidies):
    """It drops what is shorter than half the mean of the batch."""

    def columns(self, batch):
        lengths = np.array([len(text) for text in self.texts(batch)])
        drop = [("short" if n < 0.8 * lengths.mean() else None) for n in lengths]
        return {"drop": pa.array(drop, pa.string())}


@planted.fault(outcome, "does not depend on other documents")
class SortsTheBatch(Tidies):
    """Its values stand in the order of lengths."""

    def texts(self, batch):
        return sorted(super().texts(batch), key=len)


@planted.fault(outcome, "is not in kebab-case", of=tidy_one)
def rule_with_a_number(config, context):
    """The rule's name has the document's length, so each document falls by a rule of its own."""
    return each(lambda d: f"short_{len(d.text)}" if len(d.text) < 40 else d)


@planted.fault(outcome, "more of the document than its text", of=tidy_one)
def renames(config, context):
    """It gives documents new ids."""
    return each(lambda d: Text(id=f"tidy-{d.id}", source=d.source, text=d.text))


@planted.fault(on_two_machines, "in a new process the same documents", of=tidy_one)
def words_of_a_set(config, context):
    """It leaves out repeated words with a set, whose order is another one in each process."""
    return each(lambda d: Text(id=d.id, source=d.source, text=" ".join(set(d.text.split()))))


@planted.fault(of_two_sources, "does not depend on earlier ones")
class RemembersIds(Tidies):
    """It keeps what it found by id, which two sources may share."""

    def __init__(self, config, context):
        self.known = {}

    def columns(self, batch):
        names = batch.column("id").to_pylist()
        texts = [self.known.setdefault(n, t) for n, t in zip(names, self.texts(batch), strict=True)]
        return {"words": pa.array([len(text.split()) + len(text) for text in texts], pa.int32())}


@planted.fault(of_odd_documents, "failed: ZeroDivisionError", of=tidy_one)
def share_of_letters(config, context):
    """It divides by the number of letters, of which a document may have none."""

    def shouts(document):
        letters = [c for c in document.text if c.isalpha()]
        return "shouting" if sum(map(str.isupper, letters)) / len(letters) > 0.5 else document

    return each(shouts)


@planted.fault(card, "summary() is the same, however")
class SummaryOfTheLastTable(Tidies):
    """Its summary is that of the last table."""

    def summary(self, found):
        *_, last = found
        return super().summary(iter([last]))


@planted.fault(card, "what summary() gives")
class SummaryOfNumpyNumbers(Tidies):
    """Its summary has numbers that JSON does not take."""

    def summary(self, found):
        return {"words": np.sum([np.sum(table.column("words").to_numpy()) for table in found])}


@planted.fault(refused_for_records, "it replaces texts, so changes_texts()")
class SaysItKeepsTexts(Tidy):
    """It says that it does not replace texts, which it does."""

    def changes_texts(self):
        return False


@planted.fault(outcome, "the same documents have the same outcome")
class StampsDocuments(Tidies):
    """It annotates with the time of processing."""

    def columns(self, batch):
        return {"seen": pa.array([time.time_ns()] * batch.num_rows, pa.int64())}


_numbers: list[int] = []


@planted.fault(outcome, "the same documents have the same outcome", of=tidy_one)
def every_fifth(config, context):
    """It drops every fifth document that this process has seen."""

    def fifth(document):
        _numbers.append(1)
        return "fifth" if len(_numbers) % 5 == 0 else document

    return each(fifth)


@planted.fault(in_parts, "does not depend on other documents")
class TypeByContent(Tidies):
    """A column has numbers, or texts where a batch has a long one."""

    def columns(self, batch):
        lengths = [len(text) for text in self.texts(batch)]
        wide = max(lengths) > 60
        return {"size": pa.array([str(n) if wide else n for n in lengths])}
