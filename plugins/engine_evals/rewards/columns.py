"""Reads the columns that answers are checked against: the right answer, or tests of code."""

from __future__ import annotations

import ast
import builtins
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from typing import Any

from engine_evals.benchmarks.record import GenerationRecord, Match, standard_record
from engine_evals.benchmarks.text_matching import NOT_FOUND, answer_in, comparable
from engine_evals.sandbox.program import Program, parsed

Columns = Mapping[str, Any]
"""A record's columns beside the prompt, by name."""


@cache
def _number() -> Match:
    """The match by which ``gsm8k`` finds and compares the last number of a text."""
    record = standard_record("gsm8k")
    assert isinstance(record, GenerationRecord)
    return next(match for match in record.metrics if match.take == "last")


def last_number(text: str) -> str | None:
    """The last number of a text, normalised for comparison; None where there is none."""
    number = answer_in(_number(), text)
    number = "" if number == NOT_FOUND else comparable(_number(), number)
    return number if re.search("[0-9]", number) else None


def right_answer(row: Columns, column: str) -> str:
    """The column's value as text. Raises ValueError where it cannot be an answer."""
    value = _value(row, column)
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # data frames store 7 as 7.0 in a column with gaps
    usable = isinstance(value, str | int | float) and not isinstance(value, bool)
    if not usable or not str(value).strip() or value != value:
        raise ValueError(f"column '{column}' is {value!r}, neither text nor a number")
    return str(value)


def programs(code: str, row: Columns, column: str, *, apart: bool) -> list[Program]:
    """The code with the tests in the column: one program with all tests, or one per test if ``apart``.

    Tests call the names that they use but do not define. Raises ValueError for invalid tests.
    """
    tests = _value(row, column)
    pieces = [tests] if isinstance(tests, str) else tests
    if not (isinstance(pieces, list) and pieces and all(isinstance(p, str) for p in pieces)):
        raise ValueError(f"column '{column}' is {tests!r}, neither code nor a list of it")
    found = []
    for piece in pieces if apart else ["\n".join(pieces)]:
        try:
            names = tuple(sorted(_asked_for(piece)))
        except (SyntaxError, ValueError, RecursionError) as error:
            raise ValueError(f"column '{column}' is no Python code: {error}") from error
        if not names:  # any program would pass
            raise ValueError(f"column '{column}' tests nothing that an answer defines: {piece!r}")
        found.append(Program(code, piece, names))
    return found


def _asked_for(tests: str) -> set[str]:
    """The names that the tests use and that neither Python nor the tests define."""
    nodes = list(ast.walk(parsed(tests)))
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


def _value(row: Columns, column: str) -> Any:
    if column not in row:
        raise ValueError(
            f"no column '{column}' (beside the prompt it has {', '.join(row) or 'none'})"
        )
    return row[column]
