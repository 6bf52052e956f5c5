"""The components, command and checks that this plugin declares."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from engine import Component, hookimpl

if TYPE_CHECKING:
    import click

    from engine import Problem, Situation, Spec


@hookimpl
def engine_strategies() -> Sequence[Component]:
    """The strategy `auto`."""
    return [
        Component(
            "auto",
            "engine_plan.config:Auto",
            "engine_plan.auto:build",
            "The installed strategy that fits into memory with the least communication.",
        ),
    ]


@hookimpl
def engine_commands() -> Sequence[click.Command]:
    """`engine plan`."""
    from engine_plan.commands import plan

    return [plan]


@hookimpl
def engine_permissions() -> Mapping[str, str]:
    """The permission that waives the memory check."""
    return {"memory": "start what seems not to fit"}


@hookimpl
def engine_check(spec: Spec, situation: Situation) -> Sequence[Problem]:
    """Refuses a training that cannot fit into memory."""
    from engine_plan.memory_check import memory_problems

    return memory_problems(situation)


@hookimpl
def engine_expectation(spec: Spec, stage: str, situation: Situation) -> Mapping[str, float]:
    """What `engine plan` expects, for the log."""
    from engine_plan.expectation import expectation

    return expectation(situation, stage)


@hookimpl
def engine_out_of_memory(spec: Spec, stage: str, situation: Situation) -> str:
    """Says how much memory the plan had expected."""
    from engine_plan.memory_check import expected

    return expected(situation, stage)
