"""The training loop.

Everything that a step depends on is either in the checkpoint or a pure function of (seed, step,
rank), so a resumed run needs no replay.
"""

from __future__ import annotations

import hashlib
import math
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import FrameType
from typing import Any

import torch

from engine.checkpoint import Checkpoints, Saved
from engine.component import (
    Batch,
    Callback,
    Objective,
    Progress,
    RollBack,
    Schedule,
    Score,
    Stop,
    Strategy,
)
from engine.config import Amount
from engine.data.dataset import TrainingData
from engine.errors import RunError
from engine.launch import Process
from engine.log import EventLog

_SKIPS_ALLOWED = 50
"""Skipped steps in a row after which training has failed: fp16's scale finds its level in fewer."""
_WINDOWS_KEPT = 256
"""Steps whose data a roll-back can still leave out."""


@dataclass
class State:
    """Where training is. Saved with every checkpoint."""

    step: int = 0
    tokens: int = 0
    cursor: int = 0
    samples: int = 0
    seconds: float = 0.0
    skipped: int = 0
    excluded: list[tuple[int, int]] = field(default_factory=list)
    windows: list[tuple[int, int, int]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Ramp:
    """Tokens of a global batch: first · factor^⌊t / every⌋, at most ``most``."""

    first: int
    every: Amount | None = None
    factor: float = 2.0
    most: int | None = None

    def tokens(self, progress: Progress) -> int:
        """At this point of the stage."""
        if self.every is None:
            return self.first
        most = self.most or 16 * self.first
        power = min(math.floor(progress.reached(self.every)), 64)
        return int(min(self.first * self.factor**power, most))


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Something to score now and then: ``run`` is collective and gives scores on every rank."""

    name: str
    every: Amount | None
    run: Callable[[], list[Score]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What the loop is to do."""

    stage: str
    seed: int
    sequence: int
    micro_rows: int
    ramp: Ramp
    budget: Amount
    lr: float
    clip: float | None
    checkpoint_every: Amount
    evaluations: Sequence[Evaluation] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    """How the loop ended: ``done``, or ``stopped`` by a signal to be continued."""

    status: str
    state: State
    scores: Sequence[Score] = ()


class Loop:
    """One train stage's loop. Reads as: resume, step until done, finish."""

    def __init__(
        self,
        plan: Plan,
        *,
        data: TrainingData,
        objective: Objective,
        strategy: Strategy,
        schedule: Schedule,
        callbacks: Sequence[Callback],
        checkpoints: Checkpoints,
        process: Process,
        log: EventLog,
        on_step: Callable[[Mapping[str, Any]], None] = lambda event: None,
    ) -> None:
        self.plan = plan
        self.state = State()
        self._data = data
        self._objective = objective
        self._strategy = strategy
        self._schedule = schedule
        self._callbacks = callbacks
        self._checkpoints = checkpoints
        self._process = process
        self._log = log
        self._on_step = on_step
        self._signals = 0
        self._best: float | None = None
        self._scores: list[Score] = []

    def run(self) -> Outcome:
        """Trains until the budget is spent, a callback stops it, or a signal does."""
        with self._catch_signals():
            saved = self._checkpoints.latest()
            if saved is not None:
                self._load(saved)
                self._log.emit("resumed", stage=self.plan.stage, step=self.state.step)
            status = "done" if self._budget_spent() else self._train()
            self._scores = []
            if status == "done":
                for evaluation in self.plan.evaluations:
                    self._evaluate(evaluation)
            if saved is None or saved.step != self.state.step:
                self._save()
            self._checkpoints.wait()
        self._log.display.progress(self.plan.stage, 1.0, 1.0)
        return Outcome(status, self.state, self._scores)

    def _train(self) -> str:
        if self.state.step == 0:
            self._save()  # so that a roll-back always finds somewhere to go
        while True:
            before = self.progress()
            event = self._step()
            if event is None:
                self._say("stopped", reason="signal")
                return "stopped"
            action = self._tell(event)
            if isinstance(action, RollBack):
                self._roll_back(action)
                continue
            now = self.progress()
            ended = self._budget_spent()
            for evaluation in self.plan.evaluations:
                # The one at the end of the stage is made there, whatever the interval.
                if evaluation.every and _crossed(evaluation.every, before, now) and not ended:
                    action = self._evaluate(evaluation) or action
            if isinstance(action, Stop):
                self._say("ended_early", reason=action.reason)
                return "done"
            if ended:
                return "done"
            self._checkpoints.poll()
            if _crossed(self.plan.checkpoint_every, before, now):
                self._save()

    def _step(self) -> dict[str, Any] | None:
        """One optimizer step and its figures; None where a signal asks any rank to stop."""
        started = time.perf_counter()
        plan, state, strategy = self.plan, self.state, self._strategy
        rows = max(plan.ramp.tokens(self.progress()) // plan.sequence, strategy.data_size)
        examples, cursor = self._data.take(
            state.cursor, rows, state.excluded, strategy.data_rank, strategy.data_size
        )
        pieces = range(0, len(examples), plan.micro_rows)
        micro_batches = [
            self._objective.collate(examples[i : i + plan.micro_rows]) for i in pieces
        ]
        totals = strategy.all_sum({**_counts(micro_batches), "stop": float(self._signals)})
        if totals.pop("stop"):
            return None
        tokens = int(totals.pop("tokens"))
        torch.manual_seed(_mix(plan.seed, state.step, strategy.data_rank))
        lr = plan.lr * self._schedule(self.progress())
        sums = strategy.forward_backward(micro_batches, totals)
        limit = min((c.spike_limit for c in self._callbacks), default=math.inf)
        step = strategy.step(lr, plan.clip, limit)
        skipped = bool(step.skipped)

        state.step += 1
        state.tokens += tokens
        state.samples += rows
        state.windows = [*state.windows[1 - _WINDOWS_KEPT :], (state.step, state.cursor, cursor)]
        state.cursor = cursor
        state.skipped = state.skipped + 1 if skipped else 0
        losses = _means(strategy.all_sum({k: float(v) for k, v in sums.items()}), totals)
        seconds = time.perf_counter() - started
        state.seconds += seconds
        return {
            "step": state.step,
            "tokens": state.tokens,
            **losses,
            "lr": lr,
            "grad_norm": float(step.grad_norm),
            "skipped": skipped,
            "tokens_per_second": round(tokens / seconds, 1),
        }

    def _tell(self, figures: dict[str, Any]) -> Stop | RollBack | None:
        """Logs a step and asks the callbacks what to do."""
        if self.state.skipped >= _SKIPS_ALLOWED:
            raise RunError(
                f"{self.plan.stage}: {_SKIPS_ALLOWED} steps in a row were skipped, the last with "
                f"loss {figures['loss']} and gradient norm {figures['grad_norm']}",
                mend="lower the learning rate, use bf16, or look at the data with `engine data`",
            )
        event = self._say("step", **figures)
        self._on_step(event)
        self._log.display.progress(
            self.plan.stage,
            min(self.progress().reached(self.plan.budget), 0.999),
            1.0,
            f"loss {event['loss']:.3f} · {event['tokens_per_second']:,.0f} tok/s",
        )
        actions = [callback.step_finished(event) for callback in self._callbacks]
        return next((action for action in actions if action is not None), None)

    def progress(self) -> Progress:
        """The counters that schedule, ramp, budget and intervals read."""
        state = self.state
        epochs = state.samples / max(1, self._data.epoch_size)
        return Progress(state.step, state.tokens, epochs, state.seconds, self.plan.budget)

    def _budget_spent(self) -> bool:
        return self.progress().reached(self.plan.budget) >= 1

    def _evaluate(self, evaluation: Evaluation) -> Stop | None:
        action: Stop | None = None
        for score in evaluation.run():
            self._scores.append(score)
            event = self._say(
                "score",
                model=self.plan.stage,
                step=self.state.step,
                evaluator=evaluation.name,
                **asdict(score),
            )
            answers = [callback.scored(event) for callback in self._callbacks]
            action = next((a for a in answers if isinstance(a, Stop)), action)
        return action

    def _roll_back(self, action: RollBack) -> None:
        """Back to the last checkpoint before the bad steps, whose data is left out from now on."""
        self._checkpoints.wait()
        good = self.state.step - action.steps
        bad = [(start, end) for step, start, end in self.state.windows if step > good]
        excluded = sorted({*map(tuple, self.state.excluded), *bad})
        saved = self._checkpoints.latest(before=good)
        if saved is None:
            raise RunError(
                f"{self.plan.stage}: {action.reason}, and no checkpoint from before step {good + 1}",
                mend="write checkpoints more often, or keep more of them",
            )
        self._load(saved)
        self.state.excluded = excluded
        self._say("rolled_back", step=saved.step, reason=action.reason, excluded=bad)
        self._save()  # a kill from here on must not bring the bad data back

    def _save(self) -> None:
        state = {
            "loop": asdict(self.state),
            "callbacks": [callback.state() for callback in self._callbacks],
            "data": self._data.mixture.state(),
        }
        self._checkpoints.save(self._strategy.state(), state, step=self.state.step, score=self._best)

    def _load(self, saved: Saved) -> None:
        tensors = self._strategy.state()
        state = self._checkpoints.load(saved, tensors)
        self._strategy.load(tensors)
        self.state = State(**state["loop"])
        for callback, kept in zip(self._callbacks, state["callbacks"], strict=False):
            callback.load(kept)

    def _say(self, event: str, **fields: Any) -> dict[str, Any]:
        return self._log.emit(event, stage=self.plan.stage, **{"step": self.state.step, **fields})

    @contextmanager
    def _catch_signals(self) -> Iterator[None]:
        """SIGTERM and SIGINT end the step, save and leave; a second one leaves at once."""

        def note(number: int, frame: FrameType | None) -> None:
            self._signals += 1
            if self._signals > 1:
                os._exit(1)

        old = {s: signal.signal(s, note) for s in (signal.SIGTERM, signal.SIGINT)}
        try:
            yield
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)


def _crossed(every: Amount, before: Progress, now: Progress) -> bool:
    """Whether a multiple of the interval lies between two points."""
    return math.floor(now.reached(every)) > math.floor(before.reached(every))


def _counts(micro_batches: Sequence[Batch]) -> dict[str, float]:
    """Terms of each kind and input tokens, over the micro-batches."""
    totals: Counter[str] = Counter()
    for batch in micro_batches:
        totals.update(batch.counts)
        totals["tokens"] += batch.tokens
    return {name: float(count) for name, count in totals.items()}


def _means(sums: Mapping[str, float], counts: Mapping[str, float]) -> dict[str, float]:
    """The loss, and its terms where there are several."""
    means = {name: total / max(counts[name], 1.0) for name, total in sums.items()}
    parts = {f"loss/{name}": mean for name, mean in means.items()} if len(means) > 1 else {}
    return {"loss": sum(means.values()), **parts}


def _mix(*numbers: int) -> int:
    """A seed of its own for every combination."""
    digest = hashlib.blake2b(repr(numbers).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1
