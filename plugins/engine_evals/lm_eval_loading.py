"""Finds and loads lm-eval's tasks, quietly, and tells what went wrong in a line."""

from __future__ import annotations

import difflib
import io
import logging
import os
import random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from functools import cache
from typing import Any

import numpy as np
from lm_eval.tasks import TaskManager

from engine import RunError
from engine_evals.config import LmEval

_log = logging.getLogger(__name__)

_SEED = 0
"""lm-eval's, of Python's random numbers."""
_OTHER_SEED = 1234
"""lm-eval's, of numpy's, and of the choice of worked examples."""
_TALKATIVE = ("lm_eval", "datasets", "huggingface_hub", "evaluate")


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
                mend=f"did you mean {', '.join(near)}?"
                if near
                else "`lm-eval ls tasks` lists them",
            )
        # Before loading: a task that runs code may do so as it is imported.
        for leaf, told in _leaves(manager.task_index, name):
            media = told.get("doc_to_image") or told.get("doc_to_audio")
            _refuse(leaf, code=told.get("unsafe_code"), media=media)
        with telling(f"lm-eval task '{name}': loading it"):
            loaded = manager.load([name])
        for task_name, task in loaded["tasks"].items():
            if task_name in tasks:
                raise RunError(
                    f"lm-eval: '{name}' has task '{task_name}' again", mend="name it once"
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


@contextmanager
def apart() -> Iterator[None]:
    """lm-eval's seeds, silence, and no processes; all is as before afterwards.

    Training draws from the same generators, so an evaluation must leave no trace in them.
    """
    states = random.getstate(), np.random.get_state()
    loggers = [logging.getLogger(name) for name in _TALKATIVE]
    levels = [logger.level for logger in loggers]
    several = os.environ.get("DISABLE_MULTIPROC")
    nowhere = _Nowhere()
    try:
        random.seed(_SEED)
        np.random.seed(_OTHER_SEED)
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        # lm-eval's bootstrap would fork a process per core out of one that trains.
        os.environ["DISABLE_MULTIPROC"] = "1"
        with redirect_stdout(nowhere), redirect_stderr(nowhere), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
        del os.environ["DISABLE_MULTIPROC"]
        if several is not None:
            os.environ["DISABLE_MULTIPROC"] = several


@contextmanager
def telling(what: str) -> Iterator[None]:
    """Whatever a task's code raises becomes a RunError that names the task."""
    try:
        yield
    except RunError:
        raise
    except Exception as error:
        (told, *_) = str(error).splitlines() or [""]
        mend = None
        if isinstance(error, OSError):
            mend = (
                "data come from the hub once and are kept: run where it can be reached, without "
                "HF_HUB_OFFLINE, or put the files there that the task names"
            )
        elif isinstance(error, ImportError):
            mend = "install what the task needs"
        raise RunError(f"{what}: {type(error).__name__}: {told}", mend=mend) from error


class _Nowhere(io.TextIOBase):
    """Takes everything; never closed, since loggers may keep it."""

    def write(self, text: str) -> int:
        return len(text)


@cache
def _manager(include: str | None) -> Any:
    """Looking through lm-eval's 14,000 tasks takes seconds, so it is done once."""
    return TaskManager(include_path=include)


def _leaves(index: Mapping[str, Any], member: Any) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Name and YAML of every task that a name, or a member of a group, stands for."""
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
            mend="the types humaneval and mbpp have one",
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
    task.set_fewshot_seed(_OTHER_SEED)
