"""Multiple choice: log-likelihoods of the choices, compared."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine import LogLikelihood, Response
from engine_evals.record import ChoiceRecord, Question
from engine_evals.rows import Row
from engine_evals.templates import expression, template


@dataclass(frozen=True, slots=True)
class Choices:
    """One question's choices, and the positions of the right ones."""

    texts: tuple[str, ...]
    gold: frozenset[int]
    metrics: tuple[str, ...]


class ChoiceTask:
    """The choices of each question are continuations of the prompt, after a space."""

    troubles = ("truncated", "empty_choice")

    def __init__(self, record: ChoiceRecord) -> None:
        self._record = record
        self.metrics = [metric for question in record.questions for metric in question.metrics]

    def worked(self, row: Row) -> str:
        """The prompt with the first right choice of the first question."""
        choices = _choices(self._record.questions[0], row)
        return "".join(self._pair(row, choices.texts[min(choices.gold)]))

    def asked(self, row: Row, before: str) -> tuple[tuple[LogLikelihood, ...], Any]:
        """A request for each choice of each question."""
        questions = [_choices(question, row) for question in self._record.questions]
        pairs = [self._pair(row, text) for question in questions for text in question.texts]
        return tuple(LogLikelihood(before + context, end) for context, end in pairs), questions

    def scored(self, data: list[Choices], responses: Sequence[Response]) -> dict[str, float]:
        """Each metric of each question."""
        values = {
            "truncated": float(any(r.truncated for r in responses)),
            "empty_choice": float(any(not t for question in data for t in question.texts)),
        }
        start = 0
        for question in data:
            end = start + len(question.texts)
            # Where not one token is asked for, nothing can be chosen.
            logprobs = [r.logprob if r.tokens else -math.inf for r in responses[start:end]]
            values |= {metric: _METRICS[metric](logprobs, question) for metric in question.metrics}
            start = end
        return values

    def _pair(self, row: Row, choice: str) -> tuple[str, str]:
        prompt = template(self._record.prompt)(**row)
        if self._record.ending is None:
            return prompt, f" {choice}"
        return prompt + choice, f" {template(self._record.ending)(**row)}"


def _choices(question: Question, row: Row) -> Choices:
    """Raises one of WRONG_ROW where the row has no such choices or none of them is right."""
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
    """Probability on the right choices, of that on all of them (Lin et al. 2021)."""
    most = max(logprobs)
    if not math.isfinite(most):
        return 0.0
    shares = [math.exp(logprob - most) for logprob in logprobs]
    return math.fsum(shares[i] for i in question.gold) / math.fsum(shares)


def _likeliest(values: Sequence[float]) -> int:
    """The first of the largest."""
    return max(range(len(values)), key=values.__getitem__)


_METRICS: dict[str, Callable[[Sequence[float], Choices], float]] = {
    "acc": _accuracy,
    "acc_norm": _accuracy_by_length,
    "mc1": _accuracy,
    "mc2": _right_share,
}
