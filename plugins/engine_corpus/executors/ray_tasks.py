"""Executor ``ray``: tasks of Ray."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar

import ray
from ray.exceptions import RayError, RayTaskError

from engine import Context, Executor, Lost
from engine_corpus.executors.config import Ray

T = TypeVar("T")
R = TypeVar("R")


class RayExecutor(Executor):
    """Tasks of a cluster, or of a Ray that it starts and ends."""

    def __init__(self, cpus: int | None) -> None:
        self._cpus = cpus
        self._started = False

    def run(self, function: Callable[[T], R], tasks: Sequence[T]) -> Iterator[tuple[int, R | Lost]]:
        """See :class:`engine.Executor`."""
        if not tasks:
            return
        self._start()
        shared = ray.put(function)
        call = ray.remote(max_retries=0)(_called)
        running = {call.remote(shared, task): number for number, task in enumerate(tasks)}
        try:
            while running:
                (ended,), _ = ray.wait(list(running))
                number = running.pop(ended)
                yield number, _outcome(ended)
        finally:
            for task in running:
                ray.cancel(task, force=True)

    def close(self) -> None:
        """See :class:`engine.Executor`."""
        if self._started:
            ray.shutdown()

    def _start(self) -> None:
        if ray.is_initialized():
            return
        cluster = os.environ.get("RAY_ADDRESS")
        ray.init(
            num_cpus=None if cluster else self._cpus,
            include_dashboard=False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))}},
        )
        self._started = True


def build(config: Ray, context: Context) -> RayExecutor:
    """Builds the executor."""
    return RayExecutor(config.cpus)


def _called(function: Callable[[Any], Any], task: Any) -> Any:
    return function(task)


def _outcome(task: Any) -> Any:
    """What a task gave, or how it was lost. Raises what it raised."""
    try:
        return ray.get(task)
    except RayTaskError as error:
        raise error.cause from None
    except RayError as error:  # a worker, its memory or its machine is gone
        return Lost(str(error).partition("\n")[0])
