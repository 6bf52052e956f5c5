"""Evaluator ``adversarial``: loss of accuracy by adversarial tokens, found by gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import Context, LogLikelihood, Response
from engine_evals.benchmarks.multiple_choice import ChoiceTask
from engine_evals.benchmarks.record import ChoiceRecord, standard_choice_record
from engine_evals.benchmarks.row_files import Row
from engine_evals.config import Adversarial
from engine_evals.robustness.evaluator import RobustnessEvaluator, build_evaluator
from engine_evals.robustness.gradient_attack import Attack

_NAME = "adversarial"


class AdversarialTask:
    """A choice task whose rows are asked unchanged, and after adversarial tokens found for each row.

    ``acc/adversarial`` is the accuracy under attack, ``acc_drop/adversarial`` its difference to ``acc``
    row by row. The tokens are kept with the row's values.
    """

    diagnostics = ()
    troubles = ChoiceTask.troubles

    def __init__(self, record: ChoiceRecord, config: Adversarial) -> None:
        self._task = ChoiceTask(record)
        self._config = config
        self._metric = record.questions[0].metrics[0]
        self.metrics = [self._metric, f"{self._metric}/{_NAME}", f"{self._metric}_drop/{_NAME}"]

    def example(self, row: Row) -> str:
        """The row with its answer."""
        return self._task.example(row)

    def requests(self, row: Row, before: str) -> tuple[tuple[LogLikelihood | Attack, ...], Any]:
        """The requests for the choices, and a search against the first right one."""
        requests, questions = self._task.requests(row, before)
        first = questions[0]
        pairs = [self._task.pair(row, text) for text in first.texts]
        answers = [answer for _, answer in pairs]
        right = min(first.gold)
        search = Attack(
            before,
            pairs[0][0],
            answers[right],
            tuple(a for i, a in enumerate(answers) if i not in first.gold),
            self._config.tokens,
            self._config.steps,
            self._config.candidates,
            self._config.seed,
        )
        return (*requests, search), questions

    def score(self, data: Any, responses: Sequence[Response]) -> dict[str, Any]:
        """The metric without and under attack, their difference, and the inserted text."""
        *plain, attacked = responses
        values = self._task.score(data, plain)
        withstood = float(values[self._metric] > 0 and attacked.logprob > 0)
        return values | {
            f"{self._metric}/{_NAME}": withstood,
            f"{self._metric}_drop/{_NAME}": values[self._metric] - withstood,
            "inserted": attacked.text,
        }


def build(config: Adversarial, context: Context) -> RobustnessEvaluator:
    """Builds the evaluator."""
    record = standard_choice_record(config.benchmark)
    return build_evaluator(record, AdversarialTask(record, config), config)
