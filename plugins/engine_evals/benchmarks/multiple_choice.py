"""Multiple-choice benchmarks, whose choices are compared by log-likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine import LogLikelihood, Response
from engine_evals.benchmarks.record import ChoiceRecord, Question
from engine_evals.benchmarks.row_files import Row
from engine_evals.benchmarks.templates import expression, template

GOLD = "gold_logprob"
"""The right answer's log-probability, in nats per token; of several right ones the most probable's. It
moves smoothly where accuracy jumps (Schaeffer et al. 2023, "Are Emergent Abilities of Large Language
Models a Mirage?")."""


@dataclass(frozen=True, slots=True)
class Choices:
    """The choices of one question, the positions of the right ones, and the metrics to compute."""

    texts: tuple[str, ...]
    gold: frozenset[int]
    metrics: tuple[str, ...]


class ChoiceTask:
    """Asks for the log-likelihood of each choice as the prompt's continuation after a space."""

    troubles = ("truncated", "empty_choice")

    def __init__(self, record: ChoiceRecord) -> None:
        self._record = record
        # Several sets of choices have a chance each.
        self.diagnostics = (GOLD,) if len(record.questions) > 1 else (GOLD, "chance")
        self.metrics: list[str] = [
            metric for question in record.questions for metric in question.metrics
        ]

    def example(self, row: Row) -> str:
        """The prompt with the first right choice of the first question."""
        choices = choices_of(self._record.questions[0], row)
        return "".join(self.pair(row, choices.texts[min(choices.gold)]))

    def requests(self, row: Row, before: str) -> tuple[tuple[LogLikelihood, ...], list[Choices]]:
        """A request for each choice of each question."""
        questions = [choices_of(question, row) for question in self._record.questions]
        pairs = [self.pair(row, text) for question in questions for text in question.texts]
        return tuple(LogLikelihood(before + context, end) for context, end in pairs), questions

    def score(self, data: list[Choices], responses: Sequence[Response]) -> dict[str, float]:
        """The value of each metric of each question, and what is beside them of the first."""
        values = {
            "truncated": float(any(r.truncated for r in responses)),
            "empty_choice": float(any(not t for question in data for t in question.texts)),
            "chance": len(data[0].gold) / len(data[0].texts),
        }
        gold = [responses[i] for i in data[0].gold if responses[i].tokens]
        if gold:
            values[GOLD] = max(response.logprob / response.tokens for response in gold)
        start = 0
        for question in data:
            end = start + len(question.texts)
            # Without a scored token there is nothing to compare.
            logprobs = [r.logprob if r.tokens else -math.inf for r in responses[start:end]]
            values |= {metric: _METRICS[metric](logprobs, question) for metric in question.metrics}
            start = end
        return values

    def pair(self, row: Row, choice: str) -> tuple[str, str]:
        """The context and continuation by which a choice is scored."""
        prompt = template(self._record.prompt)(**row)
        if self._record.ending is None:
            return prompt, f" {choice}"
        return prompt + choice, f" {template(self._record.ending)(**row)}"


def choices_of(question: Question, row: Row) -> Choices:
    """A question's choices. Raises one of WRONG_ROW where a row has no choices, or no right one."""
    texts = expression(question.choices)(**row)
    if not isinstance(texts, list) or not texts or not all(isinstance(t, str) for t in texts):
        raise ValueError(f"choices are no list of texts: {texts!r}")
    gold = expression(question.gold)(**row)
    positions = frozenset(gold if isinstance(gold, list) else [gold])
    if not positions or not positions <= set(range(len(texts))):
        raise ValueError(f"the right choice is {gold!r}, of {len(texts)} counted from 0")
    return Choices(tuple(texts), positions, question.metrics)


def _accuracy(logprobs: Sequence[float], question: Choices) -> float:
    return float(_likeliest(logprobs) in question.gold)


def _accuracy_by_length(logprobs: Sequence[float], question: Choices) -> float:
    per_character = [
        logprob / len(text) if text else -math.inf
        for logprob, text in zip(logprobs, question.texts, strict=True)
    ]
    return float(_likeliest(per_character) in question.gold)


def _right_share(logprobs: Sequence[float], question: Choices) -> float:
    """Share of the right choices in the probability of all choices (Lin et al. 2021)."""
    most = max(logprobs)
    if not math.isfinite(most):
        return 0.0
    shares = [math.exp(logprob - most) for logprob in logprobs]
    return math.fsum(shares[i] for i in question.gold) / math.fsum(shares)


def _likeliest(values: Sequence[float]) -> int:
    """The position of the largest value, the first of several."""
    return max(range(len(values)), key=values.__getitem__)


_METRICS: dict[str, Callable[[Sequence[float], Choices], float]] = {
    "acc": _accuracy,
    "acc_norm": _accuracy_by_length,
    "mc1": _accuracy,
    "mc2": _right_share,
}
