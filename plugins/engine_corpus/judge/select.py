"""Step ``select``: keeps documents by thresholds on what earlier processors have annotated."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import Context, Corpus, CorpusStep, Dataset, RunError
from engine_corpus.judge.config import Best, Bound, Select, criterion

_COMPARISONS = {
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    ">": pc.greater,
    "<": pc.less,
}


class SelectStep(CorpusStep):
    """Drops by rules such as ``select-quality``, named after the annotation that decided, of which
    ``selected_by`` has the value; ``threshold`` is the value that a document would have needed.

    Of a share the document at the threshold stays, and so do all with the same value.
    """

    def __init__(self, config: Select) -> None:
        self._keep = dict(config.keep)

    def run(self, corpus: Corpus) -> Dataset:
        """See :class:`engine.CorpusStep`. Raises RunError for an annotation that a source lacks or
        that is no number."""
        values = corpus.map(partial(_values, names=list(self._keep)), corpus.documents)
        by_source = corpus.shuffle(values, "_key")
        thresholds = corpus.map(partial(_thresholds, keep=self._keep), by_source)
        return corpus.map(partial(_fallen, keep=self._keep, thresholds=thresholds), values)

    def summary(self, found: Iterator[pa.Table]) -> Mapping[str, Any]:
        """The number of documents that fall by each threshold of each source."""
        counts: Counter[tuple[str, str, float]] = Counter()
        for table in found:
            names = ("source", "drop", "threshold")
            counts.update(zip(*(table.column(name).to_pylist() for name in names), strict=True))
        return {
            "fallen": [
                {"source": source, "rule": rule, "threshold": threshold, "documents": count}
                for (source, rule, threshold), count in sorted(counts.items())
            ]
        }


def build(config: Select, context: Context) -> SelectStep:
    """Builds the step."""
    return SelectStep(config)


def _values(documents: pa.Table, names: list[str]) -> pa.Table:
    """The annotations of documents as numbers, with a key of their source. Raises RunError for one of
    another kind."""
    count = documents.num_rows
    columns = {name: documents.column(name) for name in ("part", "row", "source")}
    there = {field.name: field.type for field in documents.schema if field.name not in columns}
    for name in names:
        kind = there.get(name, pa.null())
        if not _is_number(kind):
            raise RunError(
                f"select: '{name}' is not a number", hint="name an annotation that is one"
            )
        found = documents.column(name) if name in there else pa.nulls(count)
        columns[name] = found.cast(pa.float64())
    keys = {one: _key(one) for one in pc.unique(documents.column("source")).to_pylist()}
    key = np.array([keys[one] for one in documents.column("source").to_pylist()], np.uint64)
    return pa.table({**columns, "_key": key})


def _is_number(kind: pa.DataType) -> bool:
    tests = (pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_null)
    return any(test(kind) for test in tests)


def _key(source: str) -> int:
    return int.from_bytes(hashlib.blake2b(source.encode(), digest_size=8).digest(), "little")


def _thresholds(values: pa.Table, keep: Mapping[str, str]) -> pa.Table:
    """The bound of each annotation in each source."""
    rows = []
    for source in sorted(pc.unique(values.column("source")).to_pylist()):
        own = values.filter(pc.equal(values.column("source"), source))
        for name, text in keep.items():
            found = own.column(name).drop_null().to_numpy()
            if not len(found):
                raise RunError(
                    f"select: no document of source '{source}' has a number '{name}'",
                    hint="put the processor that gives it before `select`",
                )
            wanted = criterion(text)
            if isinstance(wanted, Best):
                ordered = np.sort(found) if wanted.lowest else -np.sort(-found)
                last = max(1, int(np.ceil(wanted.share * own.num_rows)))
                threshold = float(ordered[min(last, len(ordered)) - 1])
            else:
                threshold = wanted.number
            rows.append({"source": source, "name": name, "threshold": threshold})
    schema = pa.schema(
        [("source", pa.string()), ("name", pa.string()), ("threshold", pa.float64())]
    )
    return pa.Table.from_pylist(rows, schema)


def _fallen(values: pa.Table, keep: Mapping[str, str], thresholds: pa.Table) -> pa.Table:
    """The documents that fall, by the first of the annotations whose threshold they miss."""
    rules = np.full(values.num_rows, None, object)
    missed, decided = (np.full(values.num_rows, np.nan) for _ in range(2))
    for row in thresholds.to_pylist():
        wanted = criterion(keep[row["name"]])
        if isinstance(wanted, Best):
            wanted = Bound("<=" if wanted.lowest else ">=", row["threshold"])
        compared = _COMPARISONS[wanted.comparison]
        holds = pc.fill_null(compared(values.column(row["name"]), row["threshold"]), False)
        own = pc.equal(values.column("source"), row["source"]).to_numpy()
        falls = own & ~holds.to_numpy() & (rules == None)  # noqa: E711 - of an array
        rules[falls] = f"select-{row['name'].replace('_', '-')}"
        missed[falls] = row["threshold"]
        decided[falls] = values.column(row["name"]).to_numpy()[falls]
    fallen = pa.array([rule is not None for rule in rules], pa.bool_())
    table = pa.table(
        {
            "part": values.column("part"),
            "row": values.column("row"),
            "drop": pa.array(rules, pa.string()),
            "selected_by": pa.array(decided, pa.float64(), from_pandas=True),
            "threshold": pa.array(missed, pa.float64()),
        }
    )
    return table.filter(fallen)
