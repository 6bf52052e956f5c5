"""Benchmarks' own solutions pass, in either tier."""

from __future__ import annotations

import pytest
from engine_evals.code_benchmarks.humaneval import HumanEvalEvaluator
from engine_evals.code_benchmarks.mbpp import MbppEvaluator
from engine_evals.config import HumanEval, Mbpp
from engine_evals.sandbox.sandbox import Sandbox

from engine import RunError

TASKS = {"humaneval": HumanEvalEvaluator(HumanEval()), "mbpp": MbppEvaluator(Mbpp())}


def sandbox_of(tier):
    try:
        return Sandbox(tiers=[tier])
    except RunError as error:
        pytest.skip(f"no {tier} here: {error}")


@pytest.mark.parametrize(("tier", "limit"), [("bubblewrap", None), ("landlock", 20)])
@pytest.mark.parametrize(
    ("name", "file", "solution"),
    [
        ("humaneval", "humaneval_sample", "canonical_solution"),
        ("mbpp", "mbpp_sanitized_sample", "code"),
    ],
)
def test_right_solutions_pass_and_empty_ones_do_not(name, file, solution, tier, limit, real_rows):
    """Every row at hand; under Landlock, some."""
    rows = real_rows(file, limit)
    evaluator, sandbox = TASKS[name], sandbox_of(tier)

    def passed(programs):
        return sum(outcome.passed for outcome in sandbox.run_all(programs))

    right = [evaluator.program(row, row[solution]) for row in rows]
    assert passed(right) == len(rows)
    if name == "humaneval":
        empty = [evaluator.program(row, "    pass\n") for row in rows]
    else:
        empty = [
            evaluator.program(row, "\n".join(f"def {name}(*a): pass" for name in program.names))
            for row, program in zip(rows, right, strict=True)
        ]
    assert passed(empty) == 0
