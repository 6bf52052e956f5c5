"""The evaluator of model-written code, which runs each program on its row's tests in the sandbox."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from engine import (
    Evaluator,
    Generation,
    Item,
    ItemTexts,
    Response,
    Score,
    seed_of,
)
from engine_evals.benchmarks.few_shot import Examples
from engine_evals.benchmarks.malformed_rows import MalformedRows, no_usable_row
from engine_evals.benchmarks.row_files import Row, is_single_file, read_rows
from engine_evals.benchmarks.statistics import mean_score
from engine_evals.benchmarks.templates import WRONG_ROW
from engine_evals.config import CodeBenchmark
from engine_evals.sandbox.program import Program
from engine_evals.sandbox.sandbox import Sandbox

_WRONG_ROW = (*WRONG_ROW, SyntaxError)

_TOP_P = 0.95
"""The papers' threshold of nucleus sampling; without effect at temperature 0."""


class CodeEvaluator(Evaluator):
    """Samples programs for each row, runs them and estimates pass@k.

    A subclass defines how rows become prompts, few-shot examples and programs.
    """

    name: str
    stop: tuple[str, ...]
    """Texts at which a program ends."""
    max_tokens: int
    usual_shots: int

    def __init__(self, config: CodeBenchmark, *, unsandboxed: bool = False) -> None:
        """``unsandboxed`` runs programs even if no sandbox works."""
        self._unsandboxed = unsandboxed
        self._config = config
        self._shots = self.usual_shots if config.shots is None else config.shots
        self._malformed = MalformedRows(self.name)

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(allow_unsandboxed=self._unsandboxed)

    def items(self) -> Iterator[Item]:
        """One item per usable row, with a request per sample.

        Raises RunError where no sandbox works, or no row is usable.
        """
        _ = self._sandbox  # fails before the model is asked
        self._malformed.clear()
        rows = read_rows(self.name, "test", self._config.rows)
        examples = self._examples(rows) if self._shots else None
        for number, row in enumerate(rows):
            try:
                self.program(row, "")
                prompt = (examples.before(row) if examples else "") + self.prompt(row)
            except _WRONG_ROW as error:
                self._malformed.add(str(number), f"{type(error).__name__}: {error}")
                continue
            yield Item(str(number), tuple(self._samples(prompt, str(number))), row)
        if len(self._malformed) == len(rows):
            raise no_usable_row(self.name, self._malformed.first)

    def texts(self) -> Iterator[ItemTexts]:
        """See :class:`engine.Evaluator`. Raises RunError where there are no rows."""
        for number, row in enumerate(read_rows(self.name, "test", self._config.rows)):
            with suppress(*_WRONG_ROW):
                yield ItemTexts(str(number), self.question(row), self.answer(row))

    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, Any]:
        """Counts of samples and outcomes, the sandbox's tier, and its missing limits."""
        programs = [self.program(item.data, response.text) for response in responses]
        outcomes = self._sandbox.run_all(programs)
        statuses: Counter[str] = Counter(outcome.status for outcome in outcomes)
        where = {"tier": self._sandbox.tier, "missing": list(self._sandbox.missing)}
        return {"samples": len(outcomes), "passed": 0, **statuses, **where}

    def summarise(self, rows: Sequence[dict[str, Any]]) -> list[Score]:
        """pass@k, shares of rows run in each tier and without each limit, number of malformed rows."""
        if not rows:
            return []
        scores = [
            mean_score(f"pass@{k}", [[pass_at_k(row["samples"], row["passed"], k) for row in rows]])
            for k in self._config.k
        ]
        ran = Counter(f"run in {row['tier']}" for row in rows)
        # Rows of earlier versions lack the field `missing`.
        ran += Counter(
            f"run without a limit on {what}" for row in rows for what in row.get("missing", ())
        )
        scores += [
            Score(how, count / len(rows), None, len(rows)) for how, count in sorted(ran.items())
        ]
        return scores + self._malformed.summarise(len(rows))

    @abstractmethod
    def prompt(self, row: Row) -> str:
        """The text that the model continues."""

    @abstractmethod
    def question(self, row: Row) -> str:
        """What the row asks, without a prompt's instructions."""

    @abstractmethod
    def answer(self, row: Row) -> str:
        """The row's own solution."""

    @abstractmethod
    def example(self, row: Row) -> str:
        """The row with its answer, as a few-shot example."""

    @abstractmethod
    def program(self, row: Row, completion: str) -> Program:
        """The completion as a program with its tests."""

    def pool(self) -> list[Row]:
        """Rows reserved for few-shot examples; empty if a benchmark has only scored rows."""
        return []

    def _samples(self, prompt: str, item: str) -> Iterator[Generation]:
        config = self._config
        for number in range(config.samples):
            seed = seed_of(self.name, item, number)
            yield Generation(prompt, self.max_tokens, self.stop, config.temperature, _TOP_P, seed)

    def _examples(self, rows: Sequence[Row]) -> Examples:
        pool = [] if is_single_file(self._config.rows) else self.pool()
        worked = []
        for row in pool or rows:
            with suppress(*_WRONG_ROW):
                self.program(row, "")
                worked.append((row, self.example(row) + "\n\n"))
        return Examples(self.name, worked, self._shots, "first", spare=not pool)


def text_field(row: Row, field: str) -> str:
    """A field that must be text. Raises KeyError or TypeError where it is not."""
    value = row[field]
    if not isinstance(value, str):
        raise TypeError(f"'{field}' is no text")
    return value


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The unbiased estimate that one of ``k`` samples passes: 1 − C(n−c, k)/C(n, k).

    See Chen et al. 2021 (arXiv:2107.03374), section 2.1.
    """
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)
