"""Faulty executors."""

from __future__ import annotations

import json
import multiprocessing
import os
import tempfile
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path

from engine_data.executors.local import LocalExecutor
from support.faults.fault import Planted

from engine import Config, Executor, Lost


class Two(Config):
    """Two processes, or threads."""


planted = Planted("executor", Two)


@planted.right
class TwoProcesses(LocalExecutor):
    """Right: the engine's own."""

    def __init__(self, config, context):
        super().__init__(2)


@planted.right
class Here(Executor):
    """Right: in this process."""

    isolated = False

    def __init__(self, config, context):
        pass

    def run(self, function, tasks):
        yield from ((number, function(task)) for number, task in enumerate(tasks))


def doubled(task):
    return 2 * task


def tripled(task):
    return 3 * task


def pair(task):
    return (task, {task: bytes(2)})


def failing(folder, task):
    Path(folder, f"{task}-{os.urandom(4).hex()}").touch()
    if task == 2:
        raise ValueError("the third")
    return task


def dying(task):
    if task == 1:
        os._exit(3)
    return task


def results(make):
    """What the calls of two verbs give."""
    made = make()
    try:
        return [
            sorted(made.run(f, some)) for f in (doubled, tripled) for some in (range(5), [], [3])
        ]
    finally:
        made.close()


def kinds_of_results(make):
    """What calls give that return other things than texts."""
    made = make()
    try:
        return str(sorted(made.run(pair, [1, 2])))
    finally:
        made.close()


def after_an_error(make):
    """The error that ends a run, how many calls were made, and what a run gives then."""
    made = make()
    with tempfile.TemporaryDirectory() as folder:
        try:
            list(made.run(partial(failing, folder), list(range(40))))
            told = "nothing"
        except Exception as error:  # an executor may raise anything
            told = type(error).__name__
        calls = len(os.listdir(folder))
        again = sorted(made.run(doubled, [1, 2]))
        made.close()
        return [told, calls < 30, again]


def calls_of_a_task(make):
    """How often each task is carried out."""
    made = make()
    with tempfile.TemporaryDirectory() as folder:
        list(made.run(partial(failing, folder), [5, 6, 7]))
        made.close()
        return sorted(name.partition("-")[0] for name in os.listdir(folder))


def lost_documents(make):
    """What a document leaves that ends its process."""
    if make().isolated and type(make()) in (InThisProcess,):
        return "the engine's own process ends"
    made = make()
    try:
        return [
            (n, isinstance(one, Lost)) for n, one in sorted(made.run(dying, [0, 1, 2]), key=str)
        ]
    finally:
        made.close()


def left_over(make):
    """Processes and threads that stay after close()."""
    made = make()
    list(made.run(doubled, [1, 2]))
    made.close()
    left = len(multiprocessing.active_children()) + len(getattr(made, "_workers", ()))
    LocalExecutor.close(made) if isinstance(made, LocalExecutor) else None
    return left


@planted.fault(results, "a result for each task, with its number", of=Here)
class NumbersFromTheEnd(Here):
    """Numbers are those of the order in which calls end."""

    def run(self, function, tasks):
        found = [function(task) for task in tasks]
        yield from enumerate(found[::-1])


@planted.fault(results, "a result for each task, with its number", of=Here)
class LeavesOutTheLast(Here):
    """It leaves out the last task."""

    def run(self, function, tasks):
        yield from super().run(function, tasks[:-1])


@planted.fault(after_an_error, "raises what the function raises", of=Here)
class ErrorsAreLosses(Here):
    """It takes an error for a lost process."""

    def run(self, function, tasks):
        for number, task in enumerate(tasks):
            try:
                yield number, function(task)
            except ValueError as error:
                yield number, Lost(str(error))


@planted.fault(after_an_error, "a ValueError, not RuntimeError", of=Here)
class ErrorsOfItsOwn(Here):
    """It raises an error of its own, whose kind nobody expects."""

    def run(self, function, tasks):
        try:
            yield from super().run(function, tasks)
        except ValueError as error:
            raise RuntimeError("a call failed") from error


@planted.fault(after_an_error, "it goes on after an error", of=Here)
class EndedByAnError(Here):
    """After an error it does nothing more."""

    broken = False

    def run(self, function, tasks):
        if self.broken:
            return
        try:
            yield from super().run(function, tasks)
        except ValueError:
            self.broken = True
            raise


@planted.fault(after_an_error, "after an error it begins no further call", of=Here)
class GoesOnAfterAnError(Here):
    """It carries out all tasks before it raises an error of the third."""

    def run(self, function, tasks):
        pool = ThreadPoolExecutor(1)
        calls: list[Future] = [pool.submit(function, task) for task in tasks]
        pool.shutdown()
        yield from ((number, call.result()) for number, call in enumerate(calls))


@planted.fault(calls_of_a_task, "is carried out once", of=Here)
class CallsTwice(Here):
    """It makes a call once more to be sure."""

    def run(self, function, tasks):
        for number, task in enumerate(tasks):
            function(task)
            yield number, function(task)


@planted.fault(results, "results come back as they are", of=Here)
class RemembersTasks(Here):
    """It keeps results by task, whatever the function."""

    def __init__(self, config, context):
        self.known = {}

    def run(self, function, tasks):
        for number, task in enumerate(tasks):
            if task not in self.known:
                self.known[task] = function(task)
            yield number, self.known[task]


@planted.fault(kinds_of_results, "results come back as they are", of=Here)
class ResultsAsJSON(Here):
    """It carries results over as JSON, which has no tuples and bytes."""

    def run(self, function, tasks):
        for number, result in super().run(function, tasks):
            yield number, json.loads(json.dumps(result, default=str))


@planted.fault(lost_documents, "calls in the engine's own process")
class InThisProcess(Here):
    """It says that a call cannot harm the engine, and makes it in the engine's process."""

    isolated = True


@planted.fault(lost_documents, "a call whose process dies gives a Lost")
class RaisesLosses(TwoProcesses):
    """A call whose process died ends the run."""

    def run(self, function, tasks):
        for number, result in super().run(function, tasks):
            if isinstance(result, Lost):
                raise RuntimeError(result.why)
            yield number, result


@planted.fault(lost_documents, "a call whose process dies gives a Lost")
class LosesLosses(TwoProcesses):
    """A call whose process died gives nothing."""

    def run(self, function, tasks):
        found = super().run(function, tasks)
        yield from ((n, result) for n, result in found if not isinstance(result, Lost))


@planted.fault(left_over, "close() ends its processes")
class StaysOpen(TwoProcesses):
    """close() leaves its processes running."""

    def close(self):
        pass

    def __del__(self):
        super().close()  # so that the test leaves nothing
