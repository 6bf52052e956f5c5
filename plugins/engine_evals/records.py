"""What runs model-written code, as this plugin declares it."""

from __future__ import annotations

from engine import Component

CODE = (
    Component(
        "humaneval",
        "engine_evals.config:HumanEval",
        "engine_evals.code:build_humaneval",
        "Functions written after their docstring, run on their tests in a sandbox; pass@k.",
        extra="evals",
    ),
    Component(
        "mbpp",
        "engine_evals.config:Mbpp",
        "engine_evals.code:build_mbpp",
        "Functions written by a sentence and three tests, run on them in a sandbox; pass@k.",
        extra="evals",
    ),
)
