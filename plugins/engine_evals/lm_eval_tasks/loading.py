"""Finds and loads lm-eval's tasks, and refuses those that the engine's model cannot answer."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from lm_eval.tasks import TaskManager

from engine import RunError
from engine_evals.config import LmEval
from engine_evals.lm_eval_tasks.isolation import naming_errors

_log = logging.getLogger(__name__)

_FEW_SHOT_SEED = 1234
"""lm-eval's seed for drawing few-shot examples."""


def load(config: LmEval) -> tuple[dict[str, Any], dict[str, Any]]:
    """Tasks and groups by name, ready to make prompts. Raises RunError."""
    manager = _manager(config.include)
    tasks: dict[str, Any] = {}
    groups: dict[str, Any] = {}
    for name in config.tasks:
        if name not in manager.all_tasks:
            near = difflib.get_close_matches(name, manager.all_tasks)
            raise RunError(
                f"lm-eval has no task '{name}'",
                hint=f"did you mean {', '.join(near)}?"
                if near
                else "`lm-eval ls tasks` lists them",
            )
        # Checked before loading, as a task may run code when it is imported.
        for leaf, told in _leaves(manager.task_index, name):
            media = told.get("doc_to_image") or told.get("doc_to_audio")
            _refuse(leaf, code=told.get("unsafe_code"), media=media)
        with naming_errors(f"lm-eval task '{name}': loading it"):
            loaded = manager.load([name])
        for task_name, task in loaded["tasks"].items():
            if task_name in tasks:
                raise RunError(
                    f"lm-eval: '{name}' has task '{task_name}' again", hint="name it once"
                )
            _refuse(
                task_name,
                code=getattr(task, "UNSAFE_CODE", False),
                media=getattr(task, "MULTIMODAL", False),
            )
            _set_shots(task_name, task, config.shots)
        tasks |= loaded["tasks"]
        groups |= loaded.get("groups", {})
    return tasks, groups


@cache
def _manager(include: str | None) -> Any:
    """lm-eval's index of its 14,000 tasks; cached, as it takes seconds."""
    return TaskManager(include_path=include)


def _leaves(index: Mapping[str, Any], member: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and YAML of every task behind a task, group or tag."""
    own = member if isinstance(member, dict) else {"task": member}
    name = own.get("group") or own.get("task")
    entry = index.get(name) if isinstance(name, str) else None
    told = own if entry is None or entry.cfg is None else entry.cfg
    members = sorted(entry.tags) if entry and entry.cfg is None else told.get("task")
    if isinstance(members, list):
        for each in members:
            yield from _leaves(index, each)
    else:
        yield str(name), told


def _refuse(name: str, *, code: Any, media: Any) -> None:
    if code:
        raise RunError(
            f"lm-eval task '{name}' runs what the model writes, outside of any sandbox",
            hint="the types humaneval and mbpp have one",
        )
    if media:
        raise RunError(f"lm-eval task '{name}' is for models that see or hear; these read text")


def _set_shots(name: str, task: Any, shots: int | None) -> None:
    usual = task.get_config("num_fewshot")
    if shots and usual == 0:  # lm-eval's rule: the task's examples are in its prompt, or unwanted
        _log.warning("lm-eval task '%s' has 0 shots by its own rule, not %d", name, shots)
    task.set_config("num_fewshot", usual if usual == 0 or shots is None else shots)
    if task.get_config("num_fewshot") is None:
        task.set_config("num_fewshot", 0)
    task.set_fewshot_seed(_FEW_SHOT_SEED)
