"""HumanEval (Chen et al. 2021): functions to complete from their docstring.

Prompts, stops and lengths are lm-eval's.
"""

from __future__ import annotations

from engine import Context
from engine_evals.benchmarks.row_files import Row
from engine_evals.code_benchmarks.evaluator import CodeEvaluator, text_field
from engine_evals.config import HumanEval
from engine_evals.sandbox.program import Program, parsed


class HumanEvalEvaluator(CodeEvaluator):
    """Asks the model to continue a function after its signature and docstring."""

    name = "humaneval"
    stop = ("\nclass", "\ndef", "\n#", "\nif", "\nprint")
    max_tokens = 1024
    usual_shots = 0

    def prompt(self, row: Row) -> str:
        """The function's signature and docstring."""
        return text_field(row, "prompt")

    def question(self, row: Row) -> str:
        """The prompt."""
        return self.prompt(row)

    def answer(self, row: Row) -> str:
        """The function's body."""
        return text_field(row, "canonical_solution")

    def example(self, row: Row) -> str:
        """The signature with the row's own solution."""
        return self.prompt(row) + self.answer(row)

    def program(self, row: Row, completion: str) -> Program:
        """The function with its tests, which may use what the prompt imports and defines."""
        prompt, entry = self.prompt(row), text_field(row, "entry_point")
        tests = f"{text_field(row, 'test')}\ncheck({entry})"
        parsed(tests)  # a row whose tests are not Python is malformed
        return Program(prompt + completion, tests, (entry,), prelude=prompt)


def build(config: HumanEval, context: Context) -> HumanEvalEvaluator:
    """Builds the evaluator."""
    return HumanEvalEvaluator(config, unsandboxed=context.allows("code"))
