"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from engine import Component, hookimpl
from engine_evals.records import BEHAVIOUR, CODE, OTHERS

if TYPE_CHECKING:
    import click


@hookimpl
def engine_commands() -> Sequence[click.Command]:
    """Brings benchmarks here, and compares models by them."""
    from engine_evals.commands import fetch, leaderboard

    return [fetch, leaderboard]


@hookimpl
def engine_evaluators() -> Sequence[Component]:
    """Benchmarks."""
    return [
        _standard("mmlu", "Exam questions in 57 subjects, with four answers by letter.", "Mmlu"),
        _standard(
            "hellaswag", "The likeliest continuation of a description of everyday acts, of four."
        ),
        _standard(
            "commonsense-qa",
            "Questions that take everyday knowledge, with five answers by letter.",
        ),
        _standard("arc-easy", "Grade-school science questions that retrieval answers."),
        _standard(
            "arc-challenge", "Grade-school science questions that retrieval does not answer."
        ),
        _standard("piqa", "Which of two ways reaches a goal in the physical world."),
        _standard("winogrande", "Which of two names a blank in a sentence stands for."),
        _standard("boolq", "Yes or no to a question about a passage."),
        _standard(
            "openbook-qa",
            "Science questions that take a fact and common sense, with four answers.",
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
        *CODE,
        *BEHAVIOUR,
        *OTHERS,
    ]


@hookimpl
def engine_rewards() -> Sequence[Component]:
    """Checks by what a record says of its answer."""
    return [
        Component(
            "answer",
            "engine_evals.reward_config:Answer",
            "engine_evals.row_rewards:build_answer",
            "Whether an answer is its record's, compared as `gsm8k` or `math` does.",
        ),
        Component(
            "tests",
            "engine_evals.reward_config:Tests",
            "engine_evals.row_rewards:build_tests",
            "Whether an answer's code passes its record's tests in the sandbox.",
        ),
    ]


def _standard(name: str, summary: str, config: str = "Benchmark") -> Component:
    return Component(
        name, f"engine_evals.config:{config}", "engine_evals.standard:build", summary, extra="evals"
    )
