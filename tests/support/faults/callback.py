"""Faulty callbacks."""

from __future__ import annotations

import json
import math
import random
import tempfile
import time
from collections import deque
from pathlib import Path
from unittest.mock import patch

from support.faults.fault import Planted

from engine import Callback, Config, Count, RollBack, Stop
from engine.testing import StandAloneContext

CONFIG = {"budget": "600 steps", "precision": "fp32", "evaluate": [], "optimizer": {"lr": 1e-3}}


class Patience(Config):
    """Stops where the loss has not fallen for some steps, and rolls back after skipped ones."""

    steps: Count = 60
    spikes: Count = 3


planted = Planted("callback", Patience)


@planted.right
class Waits(Callback):
    """Right."""

    def __init__(self, config, context):
        self.config, self.context = config, context
        self.best, self.waited, self.skipped, self.scores = math.inf, 0, 0, 0
        self.norms = deque(maxlen=10)

    @property
    def spike_limit(self):
        return 4 * max(self.norms) if len(self.norms) == 10 else math.inf

    def step_finished(self, event):
        if event["skipped"]:
            self.skipped += 1
            if self.skipped % self.config.spikes == 0:
                return RollBack(f"{self.skipped} steps were skipped", 1)
            return None
        self.norms.append(event["grad_norm"])
        self.waited = 0 if event["loss"] < self.best else self.waited + 1
        self.best = min(self.best, event["loss"])
        if self.waited >= self.config.steps:
            return Stop(f"no step of {self.waited} was below {self.best:.3f}")
        return None

    def scored(self, event):
        self.scores += 1
        return Stop(f"{self.scores} scores") if self.scores >= 20 else None

    def state(self):
        return {
            "best": self.best,
            "waited": self.waited,
            "skipped": self.skipped,
            "scores": self.scores,
            "norms": list(self.norms),
        }

    def load(self, state):
        self.best, self.waited = state["best"], state["waited"]
        self.skipped, self.scores = state["skipped"], state["scores"]
        self.norms.clear()
        self.norms.extend(state["norms"])


def events():
    """300 steps whose loss falls for 100, with every 40th skipped, and scores."""
    for step in range(1, 301):
        skipped = step % 40 == 0
        noise = math.sin(step * step)
        loss = math.nan if skipped else max(5 - step / 25, 1) + 0.05 * noise
        common = {"stage": "base", "step": step, "time": 1.7e9 + step}
        norm = math.inf if skipped else 1 + 0.2 * noise
        yield {
            "event": "step", **common, "loss": loss, "grad_norm": norm, "lr": 1e-3,
            "tokens": 480 * step, "skipped": skipped, "tokens_per_second": 1e3, "memory": 2**30,
        }  # fmt: skip
        if step % 12 == 0:
            yield {
                "event": "score", **common, "metric": "perplexity", "value": 50 / step, "n": 4,
                "stderr": 0.1, "evaluator": "perplexity", "higher_is_better": False, "model": "base",
            }  # fmt: skip


def _told(callback, some):
    return [
        (
            callback.scored(event) if event["event"] == "score" else callback.step_finished(event),
            min(callback.spike_limit, 1e9),
        )
        for event in some
    ]


def _started(made):
    made.stage_started("base", Path(tempfile.gettempdir()), CONFIG)
    return made


def answers(make):
    """What a run is told."""
    return str(_told(_started(make()), events()))


def resumed(make):
    """What a run is told that is killed at three places."""
    found, some = [], list(events())
    callback = _started(make())
    for begin, end in ((0, 33), (33, 140), (140, 200), (200, len(some))):
        found += _told(callback, some[begin:end])
        kept, callback = json.loads(json.dumps(callback.state())), _started(make())
        callback.load(kept)
    return str(found)


def beside_another(make):
    """What a run is told after another stage's callback of the type."""
    _told(_started(make()), list(events())[:90])
    return answers(make)


def saved_in_the_background(make):
    """The state of step 30, written while the run goes on."""
    callback, some = _started(make()), list(events())
    _told(callback, some[:30])
    state = callback.state()
    _told(callback, some[30:60])
    return json.dumps(state)


def on_rank_1(make):
    """What another rank is told."""
    return str(_told(_started(make(StandAloneContext(rank=1, world_size=2))), events()))


def on_a_slow_machine(make):
    """What a run is told on a machine that takes a minute for a step."""
    clock = iter(range(0, 10**9, 60))
    with patch.object(time, "monotonic", lambda: next(clock)):
        return answers(make)


def what_others_see(make):
    """The events as a callback listed after this one sees them."""
    some = list(events())
    _told(_started(make()), some)
    return str([event.get("loss") for event in some])


class Forgetful(Waits):
    forgets = ""

    def state(self):
        return {k: v for k, v in super().state().items() if k != self.forgets}

    def load(self, state):
        super().load({**Waits.state(self), **state})


@planted.fault(resumed, "let state() have every counter")
class ForgetsACounter(Forgetful):
    """The state lacks the steps without progress."""

    forgets = "waited"


@planted.fault(resumed, "let state() have every counter")
class ForgetsTheBest(Forgetful):
    """The state lacks the best loss."""

    forgets = "best"


@planted.fault(resumed, "let state() have every counter")
class ForgetsScores(Forgetful):
    """The state lacks the number of scores."""

    forgets = "scores"


@planted.fault(resumed, "with the same spike limits")
class ForgetsNorms(Forgetful):
    """The state lacks the norms of which the limit is made."""

    forgets = "norms"


@planted.fault(resumed, "state() gives what was loaded")
class LoadsNothing(Waits):
    """It has a state and no load()."""

    def load(self, state):
        pass


@planted.fault(resumed, "with the same spike limits")
class KeepsFewNorms(Waits):
    """Its state has the last three norms of ten."""

    def state(self):
        return {**super().state(), "norms": list(self.norms)[-3:]}


@planted.fault(saved_in_the_background, "what state() gave stays as it was")
class SharesItsState(Waits):
    """state() gives its own list, which the next steps change while it is written."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.losses = []

    def step_finished(self, event):
        self.losses.append(event["step"])
        return super().step_finished(event)

    def state(self):
        return {**super().state(), "losses": self.losses}

    def load(self, state):
        super().load(state)
        self.losses = state["losses"]


@planted.fault(beside_another, "an earlier callback of the class")
class SharesItsCounter(Waits):
    """A list of the class counts for all stages."""

    seen: list = []  # noqa: RUF012 - the fault

    def step_finished(self, event):
        self.seen.append(event["step"])
        return Stop("enough") if len(self.seen) % 251 == 0 else super().step_finished(event)


@planted.fault(on_rank_1, "every rank gets the same answers")
class StopsOnRankZero(Waits):
    """Only rank 0 is told to stop."""

    def step_finished(self, event):
        answer = super().step_finished(event)
        return answer if self.context.rank == 0 else None


@planted.fault(on_a_slow_machine, "answers do not depend on this machine's clock")
class WatchesTheClock(Waits):
    """It stops by its own clock, which is another one on each rank."""

    def __init__(self, config, context):
        super().__init__(config, context)
        self.start = time.monotonic()

    def step_finished(self, event):
        late = time.monotonic() - self.start > 3600
        return Stop("an hour is over") if late else super().step_finished(event)


@planted.fault(what_others_see, "it does not change the event's loss")
class ChangesEvents(Waits):
    """It smooths the loss in the event itself."""

    def step_finished(self, event):
        answer = super().step_finished(event)
        event["loss"] = 0.9 * min(self.best, 9) + 0.1 * event["loss"]
        return answer


@planted.fault(answers, "neither Stop, RollBack nor None")
class AnswersTrue(Waits):
    """It answers True in place of Stop."""

    def step_finished(self, event):
        return super().step_finished(event) is not None


@planted.fault(resumed, "JSON round trip preserves state()")
class NumbersForNames(Waits):
    """Its state has numbers as keys, which JSON makes texts."""

    def state(self):
        return {**super().state(), "by_step": {self.waited: self.best}}

    def load(self, state):
        super().load(state)
        self.best = state["by_step"][self.waited]


@planted.fault(answers, "the same events always have the same answers")
class StopsAtRandom(Waits):
    """It stops by chance, on each rank at another step."""

    def step_finished(self, event):
        return Stop("by chance") if random.random() < 0.01 else super().step_finished(event)
