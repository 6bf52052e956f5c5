"""The components and commands that this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine import Component, hookimpl

if TYPE_CHECKING:
    import click


@hookimpl
def engine_commands() -> Sequence[click.Command]:
    """Commands that fetch benchmarks' rows and compare scores."""
    from engine_evals.commands import evals

    return [evals]


@hookimpl
def engine_evaluators() -> Sequence[Component]:
    """Benchmarks, tests of robustness and safety, and lm-eval's tasks."""
    return [
        _standard("mmlu", "Exam questions in 57 subjects, with four answers by letter.", "Mmlu"),
        _standard("hellaswag", "Four continuations of a description of everyday activities."),
        _standard(
            "commonsense-qa",
            "Questions that need everyday knowledge, with five answers by letter.",
        ),
        _standard("arc-easy", "Grade-school science questions, the easier ones."),
        _standard("arc-challenge", "Grade-school science questions, the harder ones."),
        _standard("piqa", "Two ways to reach a goal in the physical world."),
        _standard("winogrande", "A blank in a sentence, and two names for it."),
        _standard("boolq", "Yes-or-no questions about a passage."),
        _standard(
            "openbook-qa",
            "Science questions that need a fact and common sense, with four answers.",
        ),
        _standard(
            "social-iqa",
            "Why people act as they do, and how others feel about it, with three answers.",
        ),
        _standard(
            "truthful-qa",
            "Questions that many people answer wrongly, with one right answer (mc1) or several "
            "(mc2).",
        ),
        _standard("gsm8k", "Grade-school word problems, worked out in words."),
        _standard(
            "math",
            "Competition problems in LaTeX, answers compared as mathematics; MATH-500 has the same "
            "rows.",
        ),
        _standard("benchmark", "A benchmark of your own, as a YAML record.", "OwnBenchmark"),
        Component(
            "humaneval",
            "engine_evals.config:HumanEval",
            "engine_evals.code_benchmarks.humaneval:build",
            "Functions to complete from their docstring, tested in a sandbox; pass@k.",
            extra="evals",
        ),
        Component(
            "mbpp",
            "engine_evals.config:Mbpp",
            "engine_evals.code_benchmarks.mbpp:build",
            "Functions to write from a sentence and three tests, tested in a sandbox; pass@k.",
            extra="evals",
        ),
        Component(
            "robustness",
            "engine_evals.config:Robustness",
            "engine_evals.robustness.perturbed:build",
            "Loss of accuracy by typos, case, white space, a distractor or reordered options.",
            extra="evals",
        ),
        Component(
            "adversarial",
            "engine_evals.config:Adversarial",
            "engine_evals.robustness.adversarial:build",
            "Loss of accuracy by a few adversarial tokens before a question, found by gradients.",
            extra="evals",
        ),
        Component(
            "safety",
            "engine_evals.config:Safety",
            "engine_evals.safety.evaluator:build",
            "How often a model refuses, or answers with profanity, on your prompts.",
            extra="evals",
        ),
        Component(
            "lm-eval",
            "engine_evals.config:LmEval",
            "engine_evals.lm_eval_tasks.evaluator:build",
            "Any other lm-eval task by name, or your own in its format.",
            extra="evals",
        ),
    ]


@hookimpl
def engine_rewards() -> Sequence[Component]:
    """Rewards that check an answer against columns of its record."""
    return [
        Component(
            "answer",
            "engine_evals.config:Answer",
            "engine_evals.rewards.answer:build",
            "Whether an answer matches its record's, compared as in `gsm8k` or `math`.",
        ),
        Component(
            "tests",
            "engine_evals.config:Tests",
            "engine_evals.rewards.code_tests:build",
            "Whether an answer's code passes its record's tests in the sandbox.",
        ),
    ]


def _standard(name: str, summary: str, config: str = "Benchmark") -> Component:
    return Component(
        name,
        f"engine_evals.config:{config}",
        "engine_evals.benchmarks.evaluator:build",
        summary,
        extra="evals",
    )
