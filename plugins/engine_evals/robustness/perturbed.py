"""Evaluator ``robustness``: a benchmark's rows, unchanged and perturbed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import cast, get_args

from engine import Context, LogLikelihood, Response
from engine_evals.benchmarks.multiple_choice import Choices, ChoiceTask
from engine_evals.benchmarks.record import ChoiceRecord, standard_choice_record
from engine_evals.benchmarks.row_files import Row
from engine_evals.config import Perturbation, Robustness
from engine_evals.robustness.evaluator import RobustnessEvaluator, build_evaluator
from engine_evals.robustness.perturbations import (
    TEXT,
    distracted,
    reordered,
    value,
    with_value,
)

_PLAIN = ""
_Data = dict[str, tuple[int, list[Choices]]]
"""By perturbation: its number of requests, and the choices that they ask for."""


class PerturbedTask:
    """A choice task that asks rows unchanged and under each perturbation; examples stay unchanged.

    Metrics are the task's (``acc``), the same under each perturbation (``acc/typos``), and the drop
    (``acc_drop/typos``).
    """

    diagnostics = ()
    troubles = ChoiceTask.troubles

    def __init__(self, record: ChoiceRecord, config: Robustness) -> None:
        self._task = ChoiceTask(record)
        self._record = record
        self._config = config
        self._names = config.perturbations or _admitted(record)
        self.metrics = [*self._task.metrics]
        for name in self._names:
            for metric in self._task.metrics:
                self.metrics += [f"{metric}/{name}", f"{metric}_drop/{name}"]

    def example(self, row: Row) -> str:
        """The unchanged row with its answer."""
        return self._task.example(row)

    def requests(self, row: Row, before: str) -> tuple[tuple[LogLikelihood, ...], _Data]:
        """The requests for the unchanged row, then for each perturbed one."""
        requests, choices = self._task.requests(row, before)
        data = {_PLAIN: (len(requests), choices)}
        for name in self._names:
            more, choices = self._perturbed(name, row, before)
            requests += more
            data[name] = (len(more), choices)
        return requests, data

    def score(self, data: _Data, responses: Sequence[Response]) -> dict[str, float]:
        """Each metric unchanged and perturbed, and the difference; a row has the troubles of any."""
        answers = iter(responses)
        found = {
            name: self._task.score(choices, [next(answers) for _ in range(number)])
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
        return self._task.requests(row, before)

    def _reordered(
        self, field: str, row: Row, before: str
    ) -> tuple[tuple[LogLikelihood, ...], list[Choices]]:
        """Requests with the options in another order. Choices are letters; the right one is the new
        letter of the right option."""
        options = value(row, field)
        order = reordered(options, self._config.seed)
        row = with_value(row, field, [options[i] for i in order])
        requests, questions = self._task.requests(row, before)
        moved = [replace(q, gold=frozenset(map(order.index, q.gold))) for q in questions]
        return requests, moved


def build(config: Robustness, context: Context) -> RobustnessEvaluator:
    """Builds the evaluator."""
    record = standard_choice_record(config.benchmark)
    return build_evaluator(record, PerturbedTask(record, config), config)


def _admitted(record: ChoiceRecord) -> list[Perturbation]:
    """All perturbations that a record's benchmark supports."""
    return [
        name for name in get_args(Perturbation) if name != "option-order" or record.options_field
    ]
