"""MBPP (Austin et al. 2021): functions to write from a sentence and three tests.

Prompts, stops and lengths are lm-eval's. Unlike in lm-eval, a row's set-up code and imports run before
its tests.
"""

from __future__ import annotations

import ast
import logging

from engine import Context, RunError
from engine_evals.benchmarks.row_files import Row, read_rows
from engine_evals.code_benchmarks.evaluator import CodeEvaluator, text_field
from engine_evals.config import Mbpp
from engine_evals.sandbox.program import Program, parsed

_log = logging.getLogger(__name__)


class MbppEvaluator(CodeEvaluator):
    """Asks the model for a function by a sentence and three tests; reads full and sanitized rows."""

    name = "mbpp"
    stop = ("[DONE]",)
    max_tokens = 256
    usual_shots = 3

    def prompt(self, row: Row) -> str:
        """The sentence and three tests."""
        task = self.question(row)
        tests = "\n".join(_tests(row)[:3])
        return (
            f"You are an expert Python programmer, and here is your task: {task} "
            f"Your code should pass these tests:\n\n{tests}\n[BEGIN]\n"
        )

    def question(self, row: Row) -> str:
        """The sentence, ``text`` in full rows and ``prompt`` in sanitized ones."""
        return text_field(row, "text" if "text" in row else "prompt")

    def answer(self, row: Row) -> str:
        """The function."""
        return text_field(row, "code")

    def example(self, row: Row) -> str:
        """The prompt with the row's own solution and the end marker."""
        return f"{self.prompt(row)}{self.answer(row)}\n[DONE]"

    def program(self, row: Row, completion: str) -> Program:
        """The program with its tests, which call the names that the row's own solution defines."""
        before = [row.get("test_setup_code", ""), *row.get("test_imports", ())]
        tests = "\n".join([*before, *_tests(row)])
        used = {node.id for node in ast.walk(parsed(tests)) if isinstance(node, ast.Name)}
        defined = {getattr(node, "name", "") for node in parsed(text_field(row, "code")).body}
        if not used & defined:  # any program would pass
            raise LookupError("its tests use nothing that its code defines")
        return Program(completion, tests, tuple(sorted(used & defined)))

    def pool(self) -> list[Row]:
        """The rows of MBPP's prompt split, from task 2 on, as in lm-eval."""
        try:
            rows = read_rows(self.name, "prompt", self._config.rows)
        except RunError as error:
            _log.warning("%s; examples are taken from the scored rows", error)
            return []
        return [row for row in rows if row.get("task_id") != 1]


def _tests(row: Row) -> list[str]:
    tests = row["test_list"]
    if not isinstance(tests, list):
        raise TypeError("'test_list' is no list")
    return tests


def build(config: Mbpp, context: Context) -> MbppEvaluator:
    """Builds the evaluator."""
    return MbppEvaluator(config, unsandboxed=context.allows("code"))
