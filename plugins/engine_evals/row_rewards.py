"""Rewards that check an answer by its record's own columns: the right answer, or tests of code."""

from __future__ import annotations

import ast
import builtins
import math
import re
import statistics
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from engine import Context
from engine_evals.matching import NOTHING, answer_in, comparable
from engine_evals.maths import Judge
from engine_evals.record import GenerationRecord, Match, packaged
from engine_evals.reward_config import Answer, Tests
from engine_evals.sandbox import Limits, Program, Sandbox

Row = Mapping[str, Any]

_FENCED = re.compile(r"```[a-z]*[ \t]*\n(.*?)(?:```|\Z)", re.DOTALL)
"""Code in Markdown; what was cut off has no end."""


class AnswerReward:
    """Compares answers with the column, by their last number or their value."""

    def __init__(self, config: Answer) -> None:
        """Raises RunError where values cannot be compared."""
        self._config, self._judge = config, Judge()
        if config.by == "value":
            self._judge.compare("1", "1")

    def score(
        self, prompts: Sequence[Any], completions: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`."""
        pairs = zip(completions, rows, strict=True)
        right = [self._right(right_answer(row, self._config.column), text) for text, row in pairs]
        return {self._config.name or "answer": torch.tensor(right, dtype=torch.float32)}

    def _right(self, gold: str, answer: str) -> bool:
        if self._config.by == "value":
            return self._judge.compare(gold, answer).same
        return last_number(answer) == last_number(gold)


class TestsReward:
    """Runs every answer's code on the tests of its row."""

    def __init__(self, config: Tests, *, unsandboxed: bool = False) -> None:
        """Raises RunError where there is no sandbox, and programs may not run ``unsandboxed``."""
        self._config = config
        limits = Limits(wall=config.seconds, cpu=math.ceil(config.seconds))
        self._sandbox = Sandbox(limits=limits, allow_unsandboxed=unsandboxed)

    def score(
        self, prompts: Sequence[Any], completions: Sequence[str], rows: Sequence[Row]
    ) -> dict[str, Tensor]:
        """See :class:`engine.Reward`."""
        config = self._config
        asked = [
            programs(code_of(text), row, config.column, apart=config.partial)
            for text, row in zip(completions, rows, strict=True)
        ]
        outcomes = iter(self._sandbox.run_all([one for several in asked for one in several]))
        passed = [
            statistics.fmean(outcome.passed for outcome in islice(outcomes, len(several)))
            for several in asked
        ]
        return {config.name or "tests": torch.tensor(passed, dtype=torch.float32)}


@cache
def _number() -> Match:
    """How ``gsm8k`` finds and compares numbers wherever they stand."""
    record = packaged("gsm8k")
    assert isinstance(record, GenerationRecord)
    return next(match for match in record.metrics if match.take == "last")


def last_number(text: str) -> str | None:
    """The last number of a text as numbers are compared; None where there is none."""
    number = answer_in(_number(), text)
    number = "" if number == NOTHING else comparable(_number(), number)
    return number if re.search("[0-9]", number) else None


def right_answer(row: Row, column: str) -> str:
    """What stands in the column, as text. Raises ValueError where that can be no answer."""
    value = _there(row, column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # 7.0 is how tables hold a 7 in a column with gaps
    usable = isinstance(value, str | int | float) and not isinstance(value, bool)
    if not usable or not str(value).strip() or value != value:
        raise ValueError(f"column '{column}' is {value!r}, neither text nor a number")
    return str(value)


def programs(code: str, row: Row, column: str, *, apart: bool) -> list[Program]:
    """The code with the tests in the column: together, or each of a list ``apart``.

    Tests call what they use and do not define themselves. Raises ValueError for what is no test.
    """
    tests = _there(row, column)
    pieces = [tests] if isinstance(tests, str) else tests
    if not (isinstance(pieces, list) and pieces and all(isinstance(p, str) for p in pieces)):
        raise ValueError(f"column '{column}' is {tests!r}, neither code nor a list of it")
    found = []
    for piece in pieces if apart else ["\n".join(pieces)]:
        try:
            names = tuple(sorted(_asked_for(piece)))
        except (SyntaxError, ValueError, RecursionError) as error:
            raise ValueError(f"column '{column}' is no Python code: {error}") from error
        if not names:  # whatever a model wrote would pass
            raise ValueError(f"column '{column}' tests nothing that an answer defines: {piece!r}")
        found.append(Program(code, piece, names))
    return found


def code_of(answer: str) -> str:
    """The last block of code of an answer in Markdown; all of another."""
    blocks: list[str] = _FENCED.findall(answer)
    return blocks[-1] if blocks else answer


def _asked_for(tests: str) -> set[str]:
    """Names that the tests use, and neither Python nor they themselves define."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of escapes and the like, which are the rows' own
        nodes = list(ast.walk(ast.parse(tests)))
    return {
        node.id for node in nodes if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
    } - {*dir(builtins), *_defined(nodes)}


def _defined(nodes: Sequence[ast.AST]) -> Iterator[str]:
    for node in nodes:
        match node:
            case ast.Name(id=name, ctx=ast.Store()) | ast.arg(arg=name):
                yield name
            case (
                ast.FunctionDef(name=name)
                | ast.AsyncFunctionDef(name=name)
                | ast.ClassDef(name=name)
            ):
                yield name
            case ast.alias(name=name, asname=other):
                yield other or name.partition(".")[0]
            case ast.ExceptHandler(name=str(name)):
                yield name
            case _:
                pass


def _there(row: Row, column: str) -> Any:
    if column not in row:
        raise ValueError(
            f"no column '{column}' (beside the prompt it has {', '.join(row) or 'none'})"
        )
    return row[column]


def build_answer(config: Answer, context: Context) -> AnswerReward:
    """The reward. Raises RunError where values cannot be compared."""
    return AnswerReward(config)


def build_tests(config: Tests, context: Context) -> TestsReward:
    """The reward. Raises RunError where there is no sandbox."""
    return TestsReward(config, unsandboxed=context.allows("code"))
