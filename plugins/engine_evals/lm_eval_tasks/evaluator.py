"""The evaluator of lm-eval's own tasks: lm-eval makes prompts and scores answers, the model answers.

Seeds, shots, filters, values and figures are those of lm-eval's ``simple_evaluate``.
"""

from __future__ import annotations

import json
import logging
import numbers
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any

from lm_eval.api.instance import Instance
from lm_eval.api.metrics import mean, stderr_for_metric

from engine import (
    Context,
    Evaluator,
    Item,
    ItemTexts,
    Response,
    Score,
    time_limit,
)
from engine_evals.config import LmEval
from engine_evals.lm_eval_tasks.isolation import isolated, naming_errors
from engine_evals.lm_eval_tasks.loading import load
from engine_evals.lm_eval_tasks.requests import answer, requests
from engine_evals.lm_eval_tasks.texts import texts_of

_log = logging.getLogger(__name__)

_DRAWS = 100_000
"""lm-eval's bootstrap resamples for standard errors without a formula, e.g. of perplexities."""
_DRAWN = 100_000_000
"""Most values drawn for one standard error, which takes seconds: with more than 1000 values there are
fewer resamples. A thousand resamples give the standard error to 2 %."""
_FEW_DRAWS = {"bleu": 100, "chrf": 100, "chrf++": 100, "ter": 100, "f1": 1000, "mcc": 1000}
"""Resamples for slow metrics. lm-eval takes as few for the first four only, and spends minutes of every
core on the others: 2.5 ms per resample for an F1 of 200 values."""


class LmEvalEvaluator(Evaluator):
    """Asks the model the documents of lm-eval's tasks; tasks take turns, so that a limit is fair."""

    def __init__(self, config: LmEval) -> None:
        """Loads tasks and data and makes all prompts, so that errors come before training.

        Raises RunError.
        """
        with isolated():
            self._tasks, self._groups = load(config)
            self._turns = [_items(name, task, config.limit) for name, task in self._tasks.items()]

    def items(self) -> Iterator[Item]:
        """An item per document."""
        for turn in zip_longest(*self._turns):
            yield from (item for item in turn if item is not None)

    def texts(self) -> list[ItemTexts]:
        """See :class:`engine.Evaluator`. Of all documents, whatever the limit. Raises RunError."""
        with isolated():
            return [text for name, task in self._tasks.items() for text in texts_of(name, task)]

    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, Any]:
        """The task, and its values by lm-eval's names: ``metric,filter``."""
        name, instances = item.data
        task = self._tasks[name]
        left = iter(responses)
        for instance in instances:
            instance.resps = [answer(instance, next(left)) for _ in range(instance.repeats)]
            instance.filtered_resps = {}
        values: dict[str, Any] = {}
        what = f"lm-eval task '{name}': scoring {item.id}"
        with isolated(), naming_errors(what), time_limit(what, "leave the task out"):
            # Filters get the same input as in lm-eval, for one document.
            task._instances = instances
            task.apply_filters()
            for chosen in instances[0].filtered_resps:
                filtered = [instance.filtered_resps[chosen] for instance in instances]
                found = task.process_results(instances[0].doc, filtered)
                values |= {f"{metric},{chosen}": value for metric, value in found.items()}
            # In JSON types, as stored, so that a resumed evaluation gives the same figures.
            return {"task": name, "metrics": json.loads(json.dumps(values, default=_plain))}

    def summarise(self, rows: Sequence[dict[str, Any]]) -> list[Score]:
        """Scores of tasks and groups: ``metric/task``, or ``metric,filter/task`` for a named filter."""
        found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
        for row in rows:
            for key, value in row["metrics"].items():
                found[row["task"]][key].append(value)
        scores: list[Score] = []
        figures = {}
        with isolated():
            for name, task in self._tasks.items():
                if name in found:
                    with naming_errors(f"lm-eval task '{name}'"):
                        figures[name] = _figures(task, found[name])
                        scores += _scores(name, figures[name], task.higher_is_better())
            for name, group in self._groups.items():
                tasks = group.get_all_tasks()
                better = {m: up for task in tasks for m, up in task.higher_is_better().items()}
                with naming_errors(f"lm-eval group '{name}'"):
                    scores += _scores(name, group.aggregate(figures), better)
        return scores


def _items(name: str, task: Any, limit: int | None) -> list[Item]:
    with naming_errors(f"lm-eval task '{name}': making its prompts"):
        task.build_all_requests(limit=limit, rank=0, world_size=1)
        documents: dict[int, list[Instance]] = defaultdict(list)
        for instance in task.instances:
            documents[instance.doc_id].append(instance)
        items = []
        for number, instances in documents.items():
            instances.sort(key=lambda instance: instance.idx)
            asked = tuple(request for each in instances for request in requests(name, each))
            items.append(Item(f"{name}/{number}", asked, (name, instances)))
        return items


def _plain(value: Any) -> Any:
    """The JSON value of a numpy number or array, or of a set."""
    return value.tolist() if hasattr(value, "tolist") else sorted(value)


def _figures(task: Any, values: Mapping[str, list[Any]]) -> dict[str, Any]:
    """A task's figures in lm-eval's form, from which its groups are computed."""
    counts = {key: len(found) for key, found in values.items()}
    figures: dict[str, Any] = {"sample_len": max(counts.values()), "sample_count": counts}
    for key, found in values.items():
        metric, _, chosen = key.rpartition(",")
        aggregate = task.aggregation().get(metric, mean)
        draws = _FEW_DRAWS.get(metric) or min(_DRAWS, max(1000, _DRAWN // len(found)))
        error = stderr_for_metric(aggregate, draws)
        figures[key] = aggregate(found)
        figures[f"{metric}_stderr,{chosen}"] = error(found) if error and len(found) > 1 else "N/A"
    return figures


def _scores(
    name: str, figures: Mapping[str, Any], higher_is_better: Mapping[str, bool]
) -> Iterator[Score]:
    for key, n in figures.get("sample_count", {}).items():
        metric, _, chosen = key.rpartition(",")
        if not isinstance(figures[key], numbers.Real):
            _log.warning("%s: %s is not a number and is left out: %.80s", name, key, figures[key])
            continue
        error = figures[f"{metric}_stderr,{chosen}"]
        yield Score(
            f"{metric if chosen == 'none' else key}/{name}",
            float(figures[key]),
            None if error == "N/A" else float(error),
            n,
            higher_is_better=higher_is_better.get(metric) is not False,
        )


def build(config: LmEval, context: Context) -> LmEvalEvaluator:
    """Builds the evaluator."""
    return LmEvalEvaluator(config)
