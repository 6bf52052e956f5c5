"""What all benchmarks of records have in common: rows, parts, worked examples, figures."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any, Protocol

from engine import Generation, Item, LogLikelihood, Response, RunError, Score
from engine_evals.fewshot import Examples
from engine_evals.figures import mean
from engine_evals.malformed import Malformed, none_right
from engine_evals.record import ChoiceRecord, GenerationRecord
from engine_evals.rows import Row, read, stands_alone
from engine_evals.templates import WRONG_ROW, template

Values = dict[str, Any]


class Task(Protocol):
    """What a kind of benchmark does with a row. Rows of a wrong shape raise one of WRONG_ROW."""

    metrics: Sequence[str]
    """The values whose means are the scores."""
    troubles: Sequence[str]
    """The values that are 1 for a row with that trouble: they are counted."""

    def worked(self, row: Row) -> str:
        """The row with its answer, as an example for another."""

    def asked(self, row: Row, before: str) -> tuple[tuple[LogLikelihood | Generation, ...], Any]:
        """What to ask about a row after the text ``before``, and what its score needs to know."""

    def scored(self, data: Any, responses: Sequence[Response]) -> Values:
        """The values by metric and trouble, and texts worth keeping."""


class BenchmarkEvaluator:
    """Puts a benchmark's rows to the model; parts take turns, so that a limit is fair to all."""

    def __init__(
        self,
        name: str,
        record: ChoiceRecord | GenerationRecord,
        task: Task,
        *,
        shots: int | None = None,
        place: str | None = None,
        parts: Sequence[str] = (),
    ) -> None:
        """Without ``shots`` and ``parts``, those of the record."""
        self._name = name
        self._record = record
        self._task = task
        self._shots = record.examples.shots if shots is None else shots
        self._place = place
        self._parts = tuple(parts)
        self._malformed = Malformed(name)

    @property
    def metrics(self) -> Sequence[str]:
        """Names of the scores, without those of parts and troubles."""
        return self._task.metrics

    def items(self) -> Iterator[Item]:
        """An item for each row that can be used. Raises RunError where none of a part can be."""
        self._malformed.clear()
        turns = [self._items(*group) for group in self._groups()]
        while turns:
            for turn in tuple(turns):
                item = next(turn, None)
                if item is None:
                    turns.remove(turn)
                else:
                    yield item

    def score(self, item: Item, responses: Sequence[Response]) -> Values:
        """A row: its part, metrics and troubles."""
        part, data = item.data
        return {"part": part, **self._task.scored(data, responses)}

    def summarise(self, rows: Sequence[Values]) -> list[Score]:
        """Means over all rows, then over each part's, then how many rows had which trouble."""
        parts: dict[str, list[Values]] = defaultdict(list)
        for row in rows:
            parts[row["part"]].append(row)
        scores = []
        for metric in self.metrics if rows else ():
            strata = {part: [row[metric] for row in found] for part, found in parts.items()}
            scores.append(mean(metric, list(strata.values())))
            if len(strata) > 1:
                scores += [mean(f"{metric}/{part}", [strata[part]]) for part in sorted(strata)]
        return scores + self._troubles(rows)

    def _troubles(self, rows: Sequence[Values]) -> list[Score]:
        counts: Counter[str] = Counter()
        for row in rows:
            counts.update({name: int(row[name]) for name in self._task.troubles})
        return self._malformed.counted(len(rows)) + [
            Score(name, float(count), None, len(rows), higher_is_better=False)
            for name, count in counts.items()
            if count
        ]

    def _groups(self) -> Iterator[tuple[str, Sequence[Row], Sequence[Row]]]:
        """Each part, its rows, and the rows that its examples are taken from."""
        source, examples = self._record.rows, self._record.examples
        if stands_alone(self._place):
            together: dict[str, list[Row]] = defaultdict(list)
            for number, row in enumerate(read(self._name, source.split, self._place)):
                if source.part_field and source.part_field not in row:
                    self._malformed.add(str(number), f"no field '{source.part_field}'")
                    continue
                part = str(row[source.part_field]) if source.part_field else ""
                if not self._parts or part in self._parts:
                    together[part].append(row)
            if not together:
                what = ", ".join(self._parts) or f"field '{source.part_field}'"
                raise RunError(f"{self._place}: no rows with {what}")
            for part, rows in together.items():
                yield part, rows, examples.rows or rows
            return
        for part in self._parts or source.parts or ("",):
            name = f"{self._name}/{part}" if part else self._name
            rows = read(name, source.split, self._place)
            if examples.rows or not self._shots:
                yield part, rows, examples.rows
            elif examples.split in (None, source.split):
                yield part, rows, rows
            else:
                yield part, rows, read(name, examples.split, self._place)

    def _items(self, part: str, rows: Sequence[Row], pool: Sequence[Row]) -> Iterator[Item]:
        name = f"{self._name}/{part}" if part else self._name
        # lm-eval leaves the row itself out of its examples wherever a benchmark has no test split.
        spare = pool is rows or (
            self._record.rows.split != "test" and pool is not self._record.examples.rows
        )
        examples = Examples(
            name, self._workable(pool), self._shots, self._record.examples.order, spare=spare
        )
        description = template(self._record.description)(part=part)
        wrong: list[str] = []
        for number, row in enumerate(rows):
            where = f"{part}/{number}" if part else str(number)
            before = description + examples.before(row)
            try:
                requests, data = self._task.asked(row, before)
            except WRONG_ROW as error:
                wrong.append(self._malformed.add(where, error))
                continue
            yield Item(where, requests, (part, data))
        if len(wrong) == len(rows):
            raise none_right(name, wrong[0])

    def _workable(self, pool: Sequence[Row]) -> list[tuple[Row, str]]:
        """Rows that can be examples, and their texts."""
        found = []
        for row in pool if self._shots else ():
            with suppress(*WRONG_ROW):
                found.append((row, self._task.worked(row) + "\n\n"))
        return found
