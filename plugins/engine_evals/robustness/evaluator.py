"""The evaluator of unchanged and perturbed rows: accuracies, and the drops between them.

Drops are paired row by row, so their standard error and 95 % interval are far smaller than those of two
separate accuracies (Miller 2024, arXiv:2411.00640, section 4.2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from engine import Score
from engine_evals.benchmarks.evaluator import BenchmarkEvaluator, Task, Values
from engine_evals.benchmarks.record import ChoiceRecord
from engine_evals.benchmarks.statistics import paired_interval
from engine_evals.config import Adversarial, Robustness


class RobustnessEvaluator(BenchmarkEvaluator):
    """Asks the model a benchmark's rows, unchanged and perturbed."""

    def summarise(self, rows: Sequence[Values]) -> list[Score]:
        """Means over all rows, without those of parts; drops have a 95 % interval."""
        scores = []
        for score in super().summarise(rows):
            if "_drop/" in score.metric and score.metric in self.metrics:
                interval = paired_interval([row[score.metric] for row in rows])
                scores.append(replace(score, higher_is_better=False, interval=interval))
            elif score.metric in self.metrics or not score.higher_is_better:
                scores.append(score)
        return scores


def build_evaluator(
    record: ChoiceRecord, task: Task, config: Robustness | Adversarial
) -> RobustnessEvaluator:
    """Builds the evaluator that asks the rows of the config's benchmark by a task."""
    return RobustnessEvaluator(
        config.benchmark, record, task, shots=config.shots, place=config.rows
    )
