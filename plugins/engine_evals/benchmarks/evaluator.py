"""The evaluator of benchmarks that a record describes: rows, parts, few-shot examples, scores."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from engine import (
    Context,
    Evaluator,
    Generation,
    Item,
    ItemTexts,
    LogLikelihood,
    OwnRequest,
    Response,
    RunError,
    Score,
)
from engine_evals.benchmarks.few_shot import Examples
from engine_evals.benchmarks.generation import GenerationTask
from engine_evals.benchmarks.item_texts import texts_of
from engine_evals.benchmarks.malformed_rows import MalformedRows, no_usable_row
from engine_evals.benchmarks.multiple_choice import ChoiceTask
from engine_evals.benchmarks.record import (
    ChoiceRecord,
    GenerationRecord,
    load_record,
    standard_record,
)
from engine_evals.benchmarks.row_files import Row, is_single_file, read_rows
from engine_evals.benchmarks.statistics import mean_score
from engine_evals.benchmarks.templates import WRONG_ROW, template
from engine_evals.config import Benchmark, Mmlu, OwnBenchmark

Values = dict[str, Any]
"""An item's result: its part, metrics and troubles by name, and texts worth keeping."""


Requests = tuple[LogLikelihood | Generation | OwnRequest, ...]


class Task(Protocol):
    """How a kind of benchmark treats a row. A row of the wrong shape raises one of WRONG_ROW."""

    @property
    def metrics(self) -> Sequence[str]:
        """Names of the values whose means are the scores."""

    @property
    def diagnostics(self) -> Sequence[str]:
        """Names of values that explain the scores, and whose means stand beside them; a row may lack
        one."""

    @property
    def troubles(self) -> Sequence[str]:
        """Names of values that are 1 for a row with that trouble; each is counted."""

    def example(self, row: Row) -> str:
        """The row with its answer, as a few-shot example for another row."""

    def requests(self, row: Row, before: str) -> tuple[Requests, Any]:
        """The requests for a row after the text ``before``, and the data that scoring needs."""

    def score(self, data: Any, responses: Sequence[Response]) -> Mapping[str, Any]:
        """The values of metrics and troubles by name, and texts worth keeping."""


class BenchmarkEvaluator(Evaluator):
    """Asks the model a benchmark's rows; parts take turns, so that a limit treats all parts equally."""

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
        """``place`` is the file or folder of the rows; ``shots`` and ``parts`` default to the
        record's."""
        self._name = name
        self._record = record
        self._task = task
        self._shots = record.examples.shots if shots is None else shots
        self._place = place
        self._parts = tuple(parts)
        self._malformed = MalformedRows(name)

    @property
    def metrics(self) -> Sequence[str]:
        """Names of the scores, without those of parts and troubles."""
        return self._task.metrics

    def items(self) -> Iterator[Item]:
        """One item for each usable row. Raises RunError where a part has no usable row."""
        self._malformed.clear()
        turns = [self._items(*group) for group in self._groups()]
        while turns:
            for turn in tuple(turns):
                item = next(turn, None)
                if item is None:
                    turns.remove(turn)
                else:
                    yield item

    def texts(self) -> Iterator[ItemTexts]:
        """See :class:`engine.Evaluator`. Raises RunError where there are no rows."""
        for part, rows, _ in self._groups():
            for number, row in enumerate(rows):
                with suppress(*WRONG_ROW):
                    yield texts_of(self._record, row, _place(part, number))

    def score(self, item: Item, responses: Sequence[Response]) -> Values:
        """Values of an item: its part, metrics and troubles."""
        part, data = item.data
        return {"part": part, **self._task.score(data, responses)}

    def summarise(self, rows: Sequence[Values]) -> list[Score]:
        """Means over all rows and over each part, diagnostics over all rows, and the number of rows
        with each trouble."""
        parts: dict[str, list[Values]] = defaultdict(list)
        for row in rows:
            parts[row["part"]].append(row)
        scores = []
        for metric in self.metrics if rows else ():
            strata = {part: [row[metric] for row in found] for part, found in parts.items()}
            scores.append(mean_score(metric, list(strata.values())))
            if len(strata) > 1:
                scores += [
                    mean_score(f"{metric}/{part}", [strata[part]]) for part in sorted(strata)
                ]
        return scores + self._diagnostics(rows) + self._troubles(rows)

    def _diagnostics(self, rows: Sequence[Values]) -> list[Score]:
        found = {
            name: [row[name] for row in rows if name in row] for name in self._task.diagnostics
        }
        return [mean_score(name, [values]) for name, values in found.items() if values]

    def _troubles(self, rows: Sequence[Values]) -> list[Score]:
        counts: Counter[str] = Counter()
        for row in rows:
            counts.update({name: int(row[name]) for name in self._task.troubles})
        return self._malformed.summarise(len(rows)) + [
            Score(name, float(count), None, len(rows), higher_is_better=False)
            for name, count in counts.items()
            if count
        ]

    def _groups(self) -> Iterator[tuple[str, Sequence[Row], Sequence[Row]]]:
        """Each part with its rows and the rows that few-shot examples are taken from."""
        source, examples = self._record.rows, self._record.examples
        if is_single_file(self._place):
            together: dict[str, list[Row]] = defaultdict(list)
            for number, row in enumerate(read_rows(self._name, source.split, self._place)):
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
            rows = read_rows(name, source.split, self._place)
            if examples.rows or not self._shots:
                yield part, rows, examples.rows
            elif examples.split in (None, source.split):
                yield part, rows, rows
            else:
                yield part, rows, read_rows(name, examples.split, self._place)

    def _items(self, part: str, rows: Sequence[Row], pool: Sequence[Row]) -> Iterator[Item]:
        name = f"{self._name}/{part}" if part else self._name
        # lm-eval excludes the row itself from its examples if a benchmark has no test split.
        spare = pool is rows or (
            self._record.rows.split != "test" and pool is not self._record.examples.rows
        )
        examples = Examples(
            name, self._workable(pool), self._shots, self._record.examples.order, spare=spare
        )
        description = template(self._record.description)(part=part)
        wrong: list[str] = []
        for number, row in enumerate(rows):
            where = _place(part, number)
            before = description + examples.before(row)
            try:
                requests, data = self._task.requests(row, before)
            except WRONG_ROW as error:
                wrong.append(self._malformed.add(where, error))
                continue
            yield Item(where, requests, (part, data))
        if len(wrong) == len(rows):
            raise no_usable_row(name, wrong[0])

    def _workable(self, pool: Sequence[Row]) -> list[tuple[Row, str]]:
        """The rows that can be few-shot examples, with their texts."""
        found = []
        for row in pool if self._shots else ():
            with suppress(*WRONG_ROW):
                found.append((row, self._task.example(row) + "\n\n"))
        return found


def build(config: Benchmark, context: Context) -> BenchmarkEvaluator:
    """Builds the evaluator of the config's ``type``, or of its record."""
    name, place = str(getattr(config, "type", "")), config.rows
    if isinstance(config, OwnBenchmark):
        file = Path(config.file)
        name, record = file.stem, load_record(file)
        if place is None and record.rows.path is not None:
            place = str(file.parent / record.rows.path)
    else:
        record = standard_record(name)
    parts = config.subjects if isinstance(config, Mmlu) else ()
    return BenchmarkEvaluator(
        name, record, _task(record), shots=config.shots, place=place, parts=parts
    )


def _place(part: str, number: int) -> str:
    """The id of an item."""
    return f"{part}/{number}" if part else str(number)


def _task(record: ChoiceRecord | GenerationRecord) -> Task:
    return ChoiceTask(record) if isinstance(record, ChoiceRecord) else GenerationTask(record)
