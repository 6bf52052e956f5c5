"""What is more than a standard benchmark, as this plugin declares it."""

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

OTHERS = (
    Component(
        "lm-eval",
        "engine_evals.config:LmEval",
        "engine_evals.lm_eval_tasks:build",
        "Any other task of lm-eval by its name, or one of your own in its format.",
        extra="evals",
    ),
)

BEHAVIOUR = (
    Component(
        "robustness",
        "engine_evals.config:Robustness",
        "engine_evals.robustness:build",
        "What typos, case, white space, a distractor or another order of options cost in accuracy.",
        extra="evals",
    ),
    Component(
        "adversarial",
        "engine_evals.config:Adversarial",
        "engine_evals.adversarial:build",
        "What the worst few tokens before a question cost in accuracy, found by gradients.",
        extra="evals",
    ),
    Component(
        "safety",
        "engine_evals.config:Safety",
        "engine_evals.safety:build",
        "How often a model refuses, and how often what it says is profane, on prompts of yours.",
        extra="evals",
    ),
)
