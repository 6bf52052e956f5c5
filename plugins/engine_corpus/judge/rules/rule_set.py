"""What all sets of rules have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import pyarrow as pa

from engine import Config, Processor
from engine_corpus.judge.rules.config import Rules
from engine_corpus.judge.rules.histograms import COUNTS, MEANS, SHARES, Histogram
from engine_corpus.judge.rules.words import Split, splitter

Measure = int | float | None
"""None where it is not defined, as a mean over nothing."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """The first rule that a text breaks, what was measured of it, and its new text, if it has one."""

    rule: str | None
    measures: Mapping[str, Measure]
    text: str | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """A configuration's field that limits a measure, and the rule's name.

    A field that begins with ``min_`` is a lower limit, any other an upper one.
    """

    field: str
    measure: str
    rule: str

    def broken(self, config: Config, measures: Mapping[str, Measure]) -> bool:
        """Whether the measure is defined and beyond the limit."""
        limit, value = getattr(config, self.field), measures[self.measure]
        if limit is None or value is None:
            return False
        return bool(value < limit if self.field.startswith("min_") else value > limit)


class RuleSet(Processor):
    """A processor with a column for each measure.

    ``split``: how to split text into words, by default as configured.
    """

    limits: ClassVar[Sequence[Limit]] = ()
    """In the order in which they are tested: the first broken one is the reason."""
    counts: ClassVar[Sequence[str]] = ()
    """Measures that are whole numbers."""
    shares: ClassVar[Sequence[str]] = ()
    """Measures that are shares or ratios."""
    means: ClassVar[Sequence[str]] = ()
    """Measures that are means of counts."""
    rewrites: ClassVar[bool] = False
    """Whether it gives texts."""

    def __init__(self, config: Rules, prefix: str, split: Split | None = None) -> None:
        self._config, self._prefix = config, prefix
        self.split = split or splitter(config.words)

    def judge(self, text: str) -> Judgement:
        """Measures a text and applies the rules."""
        raise NotImplementedError

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """See :class:`engine.Processor`: the measures, and the rule in ``drop``, or, where nothing is
        dropped, in a column of its own."""
        found = [self.judge(text) for text in batch.column("text").to_pylist()]
        types = dict.fromkeys(self.counts, pa.int64())
        types |= dict.fromkeys((*self.means, *self.shares), pa.float64())
        columns = {
            f"{self._prefix}_{name}": pa.array([one.measures.get(name) for one in found], type_)
            for name, type_ in types.items()
        }
        drop = self._config.drop
        rule = "drop" if drop else f"{self._prefix}_rule"
        columns[rule] = pa.array([one.rule for one in found], pa.string())
        if self.rewrites and drop:
            columns["text"] = pa.array([one.text for one in found], pa.large_string())
        return columns

    def summary(self, found: Iterator[pa.Table]) -> Mapping[str, Any]:
        """How text was split, the limits, and a histogram of each measure."""
        histograms = {
            name: Histogram(edges)
            for edges, measures in (
                (COUNTS, self.counts),
                (MEANS, self.means),
                (SHARES, self.shares),
            )
            for name in measures
        }
        names = {name: f"{self._prefix}_{name}" for name in histograms}
        for table in found:
            for name, column in names.items():
                if column in table.column_names:
                    histograms[name].add(table.column(column))
        limits = {limit.field: getattr(self._config, limit.field) for limit in self.limits}
        made = {name: made.result() for name, made in histograms.items()}
        decided_by = {limit.rule: [names[limit.measure]] for limit in self.limits}
        return {
            "words": self._config.words,
            "limits": limits,
            "decided_by": decided_by,
            "histograms": made,
        }
