"""Benchmarks whose answers the model generates, compared with the right ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine import Generation, Response
from engine_evals.benchmarks.math_matching import Judge
from engine_evals.benchmarks.record import GenerationRecord
from engine_evals.benchmarks.row_files import Row
from engine_evals.benchmarks.templates import template
from engine_evals.benchmarks.text_matching import answer_in, comparable


class GenerationTask:
    """Generates greedily after the prompt, up to a stop text."""

    diagnostics = ()
    troubles = ("truncated", "unfinished", "undecided")

    def __init__(self, record: GenerationRecord) -> None:
        self._record = record
        self._judge = Judge()
        self.metrics = [match.name for match in record.metrics]

    def example(self, row: Row) -> str:
        """The prompt with its answer."""
        prompt, answer = self._record.prompt, self._record.answer
        return f"{template(prompt)(**row)} {template(answer)(**row)}"

    def requests(self, row: Row, before: str) -> tuple[tuple[Generation, ...], str]:
        """One generation, and the right answer for its score."""
        record = self._record
        gold = template(record.gold if record.gold is not None else record.answer)(**row)
        prompt = before + template(record.prompt)(**row)
        return (Generation(prompt, max_tokens=record.max_tokens, stop=record.stops),), gold

    def score(self, data: str, responses: Sequence[Response]) -> dict[str, Any]:
        """Whether the answer is right by each metric, and the extracted answer."""
        (response,) = responses
        values: dict[str, Any] = {
            "truncated": float(response.truncated),
            "unfinished": float(response.tokens >= self._record.max_tokens),
            "undecided": 0.0,
        }
        for match in self._record.metrics:
            if match.by == "text":
                found = answer_in(match, response.text)
                right = comparable(match, found) == comparable(match, data)
            else:
                verdict = self._judge.compare(data, response.text)
                found, right = verdict.found, verdict.same
                values["undecided"] = float(verdict.undecided)
            values |= {match.name: float(right), f"{match.name}_extracted": found}
        return values
