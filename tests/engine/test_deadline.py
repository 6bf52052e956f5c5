"""A limit on time: it ends what takes longer, whatever is around it or in it."""

from __future__ import annotations

import contextlib
import gc
import time

import pytest

from engine import time_limit
from engine.errors import RunError


def test_a_limit_leaves_no_alarm_behind(quick):
    """Nested ones end each with its own; what ends in time is not touched."""
    with time_limit("a", "b"), time_limit("c", "d"):
        pass
    time.sleep(0.6)
    with pytest.raises(ValueError, match="own"), time_limit("a", "b"):
        raise ValueError("own")


def one_after_another():
    for _ in range(50):
        with time_limit("one", "b"):
            time.sleep(0.1)


def deaf():
    with contextlib.suppress(BaseException):
        time.sleep(60)
    time.sleep(60)


def collecting():
    """The alarm falls into a callback of the garbage collector, which only reports it."""

    def callback(phase, info):
        time.sleep(1)
        gc.callbacks.remove(callback)

    gc.callbacks.append(callback)
    gc.collect()
    time.sleep(60)


@pytest.mark.parametrize("work", [one_after_another, deaf, collecting])
def test_a_limit_holds(work, quick):
    """Around others that each end in time, and where its alarm is taken: it comes again."""
    with pytest.raises(RunError, match="all takes more"), time_limit("all", "b"):
        work()
