"""How much accuracy the worst few tokens before a question cost, found by the model's own gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import Attack, Context, LogLikelihood, Response
from engine_evals.choice import ChoiceTask
from engine_evals.config import Adversarial
from engine_evals.record import ChoiceRecord
from engine_evals.robustness import RobustnessEvaluator, around
from engine_evals.rows import Row

_NAME = "adversarial"


class AdversarialTask:
    """A choice task whose rows are put plainly, and after tokens that are searched for each of them.

    ``acc/adversarial`` counts rows whose right answer stays the likeliest, ``acc_drop/adversarial``
    what that is below ``acc``, row by row. The tokens are kept beside them.
    """

    troubles = ChoiceTask.troubles

    def __init__(self, record: ChoiceRecord, config: Adversarial) -> None:
        self._task = ChoiceTask(record)
        self._config = config
        self._metric = record.questions[0].metrics[0]
        self.metrics = [self._metric, f"{self._metric}/{_NAME}", f"{self._metric}_drop/{_NAME}"]

    def worked(self, row: Row) -> str:
        """The row with its answer."""
        return self._task.worked(row)

    def asked(self, row: Row, before: str) -> tuple[tuple[LogLikelihood | Attack, ...], Any]:
        """The choices' requests, and a search against the first right one."""
        requests, questions = self._task.asked(row, before)
        first = questions[0]
        answers = [request.continuation for request in requests[: len(first.texts)]]
        right = min(first.gold)
        search = Attack(
            before,
            requests[0].context.removeprefix(before),
            answers[right],
            tuple(a for i, a in enumerate(answers) if i not in first.gold),
            self._config.tokens,
            self._config.steps,
            self._config.candidates,
            self._config.seed,
        )
        return (*requests, search), questions

    def scored(self, data: Any, responses: Sequence[Response]) -> dict[str, Any]:
        """Plainly, under attack, and the difference."""
        *plain, attacked = responses
        values = self._task.scored(data, plain)
        withstood = float(values[self._metric] > 0 and attacked.logprob > 0)
        return values | {
            f"{self._metric}/{_NAME}": withstood,
            f"{self._metric}_drop/{_NAME}": values[self._metric] - withstood,
            "inserted": attacked.text,
        }


def build(config: Adversarial, context: Context) -> RobustnessEvaluator:
    """The evaluator."""
    return around(config, AdversarialTask)
