"""HumanEval (Chen et al. 2021) and MBPP (Austin et al. 2021): model-written code, run on its tests.

Prompts, stops and lengths are lm-eval's. Beyond it, MBPP's set-up code and imports are run before
the tests that need them, and the tests keep their own interpreter (see ``harness``).
"""

from __future__ import annotations

import ast
import logging
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from engine import Context, Generation, Item, Response, RunError, Score, seed_of
from engine_evals.config import CodeBenchmark, HumanEval, Mbpp
from engine_evals.fewshot import Examples
from engine_evals.figures import mean
from engine_evals.malformed import Malformed, none_right
from engine_evals.rows import Row, read, stands_alone
from engine_evals.sandbox import Program, Sandbox
from engine_evals.templates import WRONG_ROW

_log = logging.getLogger(__name__)

_WRONG_ROW = (*WRONG_ROW, RecursionError, SyntaxError)

_TOP_P = 0.95
"""Of the papers' sampling; says nothing where the likeliest token is taken."""


class CodeEvaluator:
    """What both have in common: samples, the sandbox, pass@k."""

    name: str
    stop: tuple[str, ...]
    max_tokens: int
    usual_shots: int

    def __init__(self, config: CodeBenchmark, *, unsandboxed: bool = False) -> None:
        """``unsandboxed``: whether programs may run where there is no sandbox."""
        self._unsandboxed = unsandboxed
        self._config = config
        self._shots = self.usual_shots if config.shots is None else config.shots
        self._malformed = Malformed(self.name)

    @cached_property
    def _sandbox(self) -> Sandbox:
        return Sandbox(allow_unsandboxed=self._unsandboxed)

    def items(self) -> Iterator[Item]:
        """An item per row that can be used, a request per sample.

        Raises RunError without a sandbox, or where no row can be used.
        """
        _ = self._sandbox  # no model is asked in vain
        self._malformed.clear()
        rows = read(self.name, "test", self._config.rows)
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
            raise none_right(self.name, self._malformed.first)

    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, Any]:
        """How many samples there are, how many came to which outcome, where and under what they ran."""
        programs = [self.program(item.data, response.text) for response in responses]
        outcomes = self._sandbox.run_all(programs)
        statuses = Counter(outcome.status for outcome in outcomes)
        where = {"tier": self._sandbox.tier, "missing": list(self._sandbox.missing)}
        return {"samples": len(outcomes), "passed": 0, **statuses, **where}

    def summarise(self, rows: Sequence[dict[str, Any]]) -> list[Score]:
        """pass@k, shares of rows run in each tier and without each limit, how many were malformed."""
        if not rows:
            return []
        scores = [
            mean(f"pass@{k}", [[pass_at_k(row["samples"], row["passed"], k) for row in rows]])
            for k in self._config.k
        ]
        ran = Counter(f"run in {row['tier']}" for row in rows)
        # Rows of before missing limits were noted have none.
        ran += Counter(
            f"run without a limit on {what}" for row in rows for what in row.get("missing", ())
        )
        scores += [
            Score(how, count / len(rows), None, len(rows)) for how, count in sorted(ran.items())
        ]
        return scores + self._malformed.counted(len(rows))

    def prompt(self, row: Row) -> str:
        """What the model continues."""
        raise NotImplementedError

    def worked(self, row: Row) -> str:
        """The row with its answer, as an example before another."""
        raise NotImplementedError

    def program(self, row: Row, completion: str) -> Program:
        """The completion as a program with its tests."""
        raise NotImplementedError

    def pool(self) -> list[Row]:
        """Rows of their own for examples; none where a benchmark has only those that it scores."""
        return []

    def _samples(self, prompt: str, item: str) -> Iterator[Generation]:
        config = self._config
        for number in range(config.samples):
            seed = seed_of(self.name, item, number)
            yield Generation(prompt, self.max_tokens, self.stop, config.temperature, _TOP_P, seed)

    def _examples(self, rows: Sequence[Row]) -> Examples:
        pool = [] if stands_alone(self._config.rows) else self.pool()
        worked = []
        for row in pool or rows:
            with suppress(*_WRONG_ROW):
                self.program(row, "")
                worked.append((row, self.worked(row) + "\n\n"))
        return Examples(self.name, worked, self._shots, "first", spare=not pool)


class HumanEvalEvaluator(CodeEvaluator):
    """The model goes on after a signature and its docstring."""

    name = "humaneval"
    stop = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    max_tokens = 1024
    usual_shots = 0

    def prompt(self, row: Row) -> str:
        """The signature."""
        return _text(row, "prompt")

    def worked(self, row: Row) -> str:
        """The whole function."""
        return self.prompt(row) + _text(row, "canonical_solution")

    def program(self, row: Row, completion: str) -> Program:
        """Tests may use what the prompt imports and defines, but call the model's function."""
        prompt, entry = self.prompt(row), _text(row, "entry_point")
        tests = f"{_text(row, 'test')}\ncheck({entry})"
        _parsed(tests)
        return Program(prompt + completion, tests, (entry,), prelude=prompt)


class MbppEvaluator(CodeEvaluator):
    """The model writes a function by a sentence and three tests. Full and sanitized rows."""

    name = "mbpp"
    stop = ("[DONE]",)
    max_tokens = 256
    usual_shots = 3

    def prompt(self, row: Row) -> str:
        """The sentence is ``text`` in full rows, ``prompt`` in sanitized ones."""
        task = _text(row, "text" if "text" in row else "prompt")
        tests = "\n".join(_tests(row)[:3])
        return (
            f"You are an expert Python programmer, and here is your task: {task} "
            f"Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
        )

    def worked(self, row: Row) -> str:
        """With the code and its end."""
        return f"{self.prompt(row)}{_text(row, 'code')}\n[DONE]"

    def program(self, row: Row, completion: str) -> Program:
        """Tests call those of their names that the row's own solution defines."""
        before = [row.get("test_setup_code", ""), *row.get("test_imports", ())]
        tests = "\n".join([*before, *_tests(row)])
        used = {node.id for node in ast.walk(_parsed(tests)) if isinstance(node, ast.Name)}
        defined = {getattr(node, "name", "") for node in _parsed(_text(row, "code")).body}
        if not used & defined:  # whatever a model wrote would pass
            raise LookupError("its tests use nothing that its code defines")
        return Program(completion, tests, tuple(sorted(used & defined)))

    def pool(self) -> list[Row]:
        """lm-eval's examples are tasks 2 to 4, in the split that MBPP keeps for them."""
        try:
            rows = read(self.name, "prompt", self._config.rows)
        except RunError as error:
            _log.warning("%s; examples are taken from the rows that are scored", error)
            return []
        return [row for row in rows if row.get("task_id") != 1]


def _text(row: Row, field: str) -> str:
    value = row[field]
    if not isinstance(value, str):
        raise TypeError(f"'{field}' is no text")
    return value


def _tests(row: Row) -> list[str]:
    tests = row["test_list"]
    if not isinstance(tests, list):
        raise TypeError("'test_list' is no list")
    return tests


def _parsed(code: str) -> ast.Module:
    """Without a word on escapes and the like, which are the rows' own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        return ast.parse(code)


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The chance that one of ``k`` of the samples passes: 1 − C(n−c, k)/C(n, k), without bias.

    Chen et al. 2021, section 2.1.
    """
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)


def build_humaneval(config: HumanEval, context: Context) -> HumanEvalEvaluator:
    """The evaluator."""
    return HumanEvalEvaluator(config, unsandboxed=context.allows("code"))


def build_mbpp(config: Mbpp, context: Context) -> MbppEvaluator:
    """The evaluator."""
    return MbppEvaluator(config, unsandboxed=context.allows("code"))
