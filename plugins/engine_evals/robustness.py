"""How much accuracy small changes of the questions cost: every row is asked plainly and changed.

Drops are paired: taken row by row, so that standard error and 95 % interval are those of the
differences, far smaller than those of two accuracies (Miller 2024, arXiv:2411.00640, section 4.2).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, cast, get_args

from engine import Context, LogLikelihood, Response, Score
from engine_evals.benchmark import BenchmarkEvaluator, Task, Values
from engine_evals.choice import Choices, ChoiceTask
from engine_evals.config import Adversarial, Perturbation, Robustness
from engine_evals.figures import paired_interval
from engine_evals.perturbations import TEXT, distracted, reordered, value, with_value
from engine_evals.record import ChoiceRecord, packaged
from engine_evals.rows import Row

_PLAIN = ""


class RobustTask:
    """A choice task whose rows are put plainly and under each perturbation; examples stay plain.

    Metrics are the task's (``acc``), each under each perturbation (``acc/typos``), and what that
    costs (``acc_drop/typos``).
    """

    troubles = ChoiceTask.troubles

    def __init__(self, record: ChoiceRecord, config: Robustness) -> None:
        self._task = ChoiceTask(record)
        self._record = record
        self._config = config
        self._names = config.perturbations or _admitted(record)
        self.metrics = list(self._task.metrics)
        for name in self._names:
            for metric in self._task.metrics:
                self.metrics += [f"{metric}/{name}", f"{metric}_drop/{name}"]

    def worked(self, row: Row) -> str:
        """The plain row with its answer."""
        return self._task.worked(row)

    def asked(self, row: Row, before: str) -> tuple[tuple[LogLikelihood, ...], Any]:
        """The plain row's requests, then each perturbed one's; their number and choices by name."""
        requests, choices = self._task.asked(row, before)
        data = {_PLAIN: (len(requests), choices)}
        for name in self._names:
            more, choices = self._perturbed(name, row, before)
            requests += more
            data[name] = (len(more), choices)
        return requests, data

    def scored(
        self, data: Mapping[str, tuple[int, Any]], responses: Sequence[Response]
    ) -> dict[str, float]:
        """Each metric plainly, perturbed, and their difference; a trouble of any is the row's."""
        answers = iter(responses)
        found = {
            name: self._task.scored(choices, [next(answers) for _ in range(number)])
            for name, (number, choices) in data.items()
        }
        plain = found.pop(_PLAIN)
        values = dict(plain)
        for name, perturbed in found.items():
            for metric in self._task.metrics:
                values[f"{metric}/{name}"] = perturbed[metric]
                values[f"{metric}_drop/{name}"] = plain[metric] - perturbed[metric]
            for trouble in self.troubles:
                values[trouble] = max(values[trouble], perturbed[trouble])
        return values

    def _perturbed(
        self, name: Perturbation, row: Row, before: str
    ) -> tuple[tuple[LogLikelihood, ...], list[Choices]]:
        config, fields = self._config, self._record.question_fields
        if name == "option-order":
            return self._reordered(cast("str", self._record.options_field), row, before)
        if name == "distractor":
            row = with_value(row, fields[0], distracted(value(row, fields[0]), config.seed))
        else:
            for field in fields:
                text = TEXT[name](value(row, field), config.seed, config.strength)
                row = with_value(row, field, text)
        return self._task.asked(row, before)

    def _reordered(
        self, field: str, row: Row, before: str
    ) -> tuple[tuple[LogLikelihood, ...], list[Choices]]:
        """Choices are letters: the right one is that under which the right option now stands."""
        options = value(row, field)
        order = reordered(options, self._config.seed)
        row = with_value(row, field, [options[i] for i in order])
        requests, questions = self._task.asked(row, before)
        moved = [replace(q, gold=frozenset(map(order.index, q.gold))) for q in questions]
        return requests, moved


class RobustnessEvaluator(BenchmarkEvaluator):
    """Puts a benchmark's rows to the model, plain and perturbed."""

    def summarise(self, rows: Sequence[Values]) -> list[Score]:
        """Means over all rows, without a line for each of a benchmark's parts; drops with intervals."""
        scores = []
        for score in super().summarise(rows):
            if "_drop/" in score.metric and score.metric in self.metrics:
                interval = paired_interval([row[score.metric] for row in rows])
                scores.append(replace(score, higher_is_better=False, interval=interval))
            elif score.metric in self.metrics or not score.higher_is_better:
                scores.append(score)
        return scores


def around(config: Robustness | Adversarial, task: Callable[..., Task]) -> RobustnessEvaluator:
    """The evaluator of the benchmark that the config names, by a task made of its record."""
    record = cast("ChoiceRecord", packaged(config.benchmark))
    return RobustnessEvaluator(
        config.benchmark,
        record,
        task(record, config),
        shots=config.shots,
        place=config.rows,
    )


def build(config: Robustness, context: Context) -> RobustnessEvaluator:
    """The evaluator."""
    return around(config, RobustTask)


def _admitted(record: ChoiceRecord) -> list[Perturbation]:
    return [
        name for name in get_args(Perturbation) if name != "option-order" or record.options_field
    ]
