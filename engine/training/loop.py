"""The training loop.

Everything that a step depends on is either in the checkpoint or a pure function of (seed, step,
rank), so a resumed run needs no replay.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, replace
from typing import Any

import torch

from engine.contracts.amounts import Amount
from engine.contracts.batch import Batch
from engine.contracts.callback import Callback, RollBack, Stop
from engine.contracts.feed import Feed, State
from engine.contracts.optimizer import Progress, Schedule
from engine.contracts.scoring import Score, seed_of
from engine.contracts.strategy import Strategy
from engine.data.examples import TrainingData
from engine.errors import RunError
from engine.event_log import EventLog
from engine.hardware.compiling import compiled
from engine.hardware.devices import forget_peak, peak_memory
from engine.modeling.scalars import read_scalars
from engine.processes.process import Process, Signals
from engine.storage.checkpoints import Checkpoints, Saved
from engine.storage.saved_state import understood
from engine.training.loop_plan import (
    SKIPS_ALLOWED,
    Evaluation,
    Outcome,
    Plan,
    crossed,
    named,
    skipped_too_often,
)
from engine.training.loss_terms import counts, means
from engine.training.penalties import Penalties
from engine.training.silent_faults import find_fault, silent_fault


class Loop:
    """The loop of one train stage: resume, step until done, finish."""

    def __init__(
        self,
        plan: Plan,
        *,
        data: TrainingData,
        feed: Feed,
        strategy: Strategy,
        schedule: Schedule,
        callbacks: Sequence[Callback],
        penalties: Penalties,
        checkpoints: Checkpoints,
        process: Process,
        log: EventLog,
        on_step: Callable[[Mapping[str, Any]], None] = lambda event: None,
    ) -> None:
        self.plan = plan
        self.state = State()
        self._data, self._feed = data, feed
        self._strategy, self._schedule = strategy, schedule
        self._callbacks, self._penalties, self._checkpoints = callbacks, penalties, checkpoints
        self._process, self._log, self._on_step = process, log, on_step
        self._signals = Signals()
        self._score: float | None = None
        self._scores: list[Score] = []
        self._saved_at = -1
        self._probe: list[Batch] = []
        self._sound_at = 0

    def run(self) -> Outcome:
        """Trains until the budget is spent, a callback stops it, or a signal does."""
        with self._signals.caught():
            saved: Saved | None = self._process.broadcast(self._checkpoints.latest())
            self._checkpoints.check_space(self._strategy.state())
            if saved is not None:
                self._resume(saved)
            status = "done" if self._ended() else self._train()
            self._scores = []
            if status == "done":
                for evaluation in self.plan.evaluations:
                    self._evaluate(evaluation)
            if self._saved_at != self.state.step:
                self._save()
            self._checkpoints.wait()
        self._log.display.progress(self.plan.stage, 1.0, 1.0)
        return Outcome(status, self.state, self._scores)

    def _train(self) -> str:
        if self.state.step == 0:
            self._save()  # so that a roll-back always finds a checkpoint
        while True:
            before = self.progress()
            event = self._step()
            if event is None:
                self._emit("stopped", reason="signal")
                return "stopped"
            action = self._report(event)
            if isinstance(action, RollBack):
                self._roll_back(action)
                continue
            now = self.progress()
            if self.plan.check_every and crossed(self.plan.check_every, before, now):
                self._check()
            for evaluation in self.plan.evaluations:
                # At the stage's end run() evaluates, whatever the interval.
                due = evaluation.every and crossed(evaluation.every, before, now)
                if due and not self._ended():
                    action = self._evaluate(evaluation) or action
            if isinstance(action, Stop):
                self.state.ended = action.reason
                self._emit("ended_early", reason=action.reason)
            if self._ended():
                return "done"
            self._checkpoints.poll()
            if crossed(self.plan.checkpoint_every, before, now):
                self._save()

    def _step(self) -> dict[str, Any] | None:
        """One optimizer step and its figures; None if a signal asks any rank to stop."""
        started = time.perf_counter()
        plan, state, strategy = self.plan, self.state, self._strategy
        taken = self._feed.take(state, self.progress(), self._stopping)
        if taken is None:
            return None
        micro_batches = self._penalties.counted(taken.micro_batches)
        forget_peak(self._process.device)
        totals = strategy.all_sum({**counts(micro_batches), "stop": float(self._signals.count)})
        if totals.pop("stop"):
            return None
        tokens = int(totals.pop("tokens"))
        self._probe = micro_batches[:1]
        torch.manual_seed(seed_of(plan.seed, state.step, strategy.data_rank))
        lr = plan.lr * self._schedule(self.progress())
        with compiled(micro_batches, plan.sequence) if plan.compile else nullcontext():
            sums = self._penalties.forward_backward(strategy, micro_batches, totals)
        limit = min((c.spike_limit for c in self._callbacks), default=math.inf)
        step = strategy.step(lr, plan.clip, limit)
        norms = {f"grad_norm/{name}": norm for name, norm in step.companions.items()}
        summed, scalars = read_scalars(
            sums, {"skipped": step.skipped, "grad_norm": step.grad_norm, **norms}
        )
        skipped = bool(scalars.pop("skipped"))
        self._penalties.end_step(strategy.all_sum, skipped=skipped)
        # All ranks use one mean time, so that they agree on when a budget in time is spent.
        own = {"seconds": time.perf_counter() - started}
        figures = strategy.all_sum({**summed, **own})
        seconds = figures.pop("seconds") / strategy.data_size
        state.stepped(taken, tokens, seconds, skipped=skipped)
        self._score = None
        return {
            "step": state.step,
            "tokens": state.tokens,
            **means(figures, totals),
            **taken.figures,
            "lr": lr,
            **scalars,
            "skipped": skipped,
            **plan.speed(tokens, seconds),
            "memory": peak_memory(self._process.device),
        }

    def _stopping(self) -> bool:
        """Whether a signal asks any rank to stop."""
        return self._strategy.all_sum({"stop": float(self._signals.count)})["stop"] > 0

    def _report(self, figures: dict[str, Any]) -> Stop | RollBack | None:
        """Logs a step and asks the callbacks what to do."""
        event = self._emit("step", **figures)
        self._on_step(event)
        self._log.display.progress(
            self.plan.stage,
            min(self.progress().reached(self.plan.budget), 0.999),
            1.0,
            f"loss {event['loss']:.3f} · {event['tokens_per_second']:,.0f} tok/s",
        )
        actions = [callback.step_finished(event) for callback in self._callbacks]
        if self.state.skipped >= SKIPS_ALLOWED:
            raise skipped_too_often(self.plan.stage, figures)
        return next((action for action in actions if action is not None), None)

    def progress(self) -> Progress:
        """The counters from which schedule, ramp, budget and intervals are computed."""
        state = self.state
        epochs = self._consumed() / max(1, self._data.epoch_size)
        return Progress(state.step, state.tokens, epochs, state.seconds, self.plan.budget)

    def _consumed(self) -> int:
        """Samples that were used or left out.

        Never more than were taken: a round that was used in part may be left out afterwards.
        """
        state = self.state
        left_out = self._data.left_out(state.cursor, state.excluded)
        return min(state.samples + left_out, state.cursor)

    def _ended(self) -> bool:
        budget = self.plan.budget
        if budget.unit == "epochs":  # counted in samples, as a fraction of an epoch is rounded
            reached = self._consumed() >= self._data.end(budget)
        else:
            reached = self.progress().reached(budget) >= 1
        return self.state.ended is not None or reached

    def _evaluate(self, evaluation: Evaluation) -> Stop | None:
        action: Stop | None = None
        measured = evaluation.run()
        for sample in measured.samples:
            self._emit("sample", model=self.plan.stage, evaluator=evaluation.name, **asdict(sample))
        for score in measured.scores:
            self._scores.append(score)
            if evaluation is self.plan.evaluations[0] and self._score is None:
                self._score = -score.value if score.higher_is_better else score.value
            event = self._emit(
                "score",
                model=self.plan.stage,
                step=self.state.step,
                evaluator=evaluation.name,
                **asdict(score),
            )
            answers = [callback.scored(event) for callback in self._callbacks]
            action = next((a for a in answers if isinstance(a, Stop)), action)
        return action

    def _check(self) -> None:
        """Raises RunError for a silent fault, after deleting the checkpoints that may contain it."""
        wrong = find_fault(self._strategy, self._probe, self._process)
        if wrong is None:
            self._sound_at = self.state.step
            return
        self._checkpoints.wait()
        self._checkpoints.drop_after(self._sound_at)
        raise silent_fault(self.plan.stage, self.state.step, self._sound_at, wrong)

    def _roll_back(self, action: RollBack) -> None:
        """Returns to the last checkpoint before the bad steps and leaves out their data from now on.

        Callbacks keep their state, so that they remember the bad steps.
        """
        self._checkpoints.wait()
        good = self.state.step - action.steps
        bad = [(start, end) for step, start, end in self.state.windows if step > good]
        excluded = sorted({*((a, b) for a, b in self.state.excluded), *bad})
        saved: Saved | None = self._process.broadcast(self._checkpoints.latest(before=good))
        if saved is None:
            raise RunError(
                f"{self.plan.stage}: {action.reason}, and no checkpoint from before step {good + 1}",
                hint="write checkpoints more often, or keep more of them",
            )
        # If killed from here on, the run resumes from the good checkpoint and rolls back again.
        self._checkpoints.drop_after(saved.step)
        self._load(saved)
        self.state.excluded = excluded
        self.state.cursor = self._data.after(self.state.cursor, excluded)
        self._emit("rolled_back", step=saved.step, reason=action.reason, excluded=bad)
        self._save()

    def _resume(self, saved: Saved) -> None:
        with understood(saved.folder):
            self._restore(self._load(saved))

    def _restore(self, state: Mapping[str, Any]) -> None:
        data = self._data
        self._emit("resumed")
        self.plan.check_versions(state["versions"])
        self.plan.check_inputs(state.get("inputs", {}))
        kept = state["callbacks"]
        for name, callback in named(self._callbacks).items():
            if name in kept:
                callback.load(kept[name])
        data.mixture = data.mixture.resumed(state["data"], self.state.cursor)
        before = Amount.parse(state["budget"])
        if before != self.plan.budget:
            self.state.ended = None
            was, now = replace(self.progress(), budget=before), self.progress()
            lr = [self.plan.lr * self._schedule(at) for at in (was, now)]
            if lr[0] != lr[1]:
                self._log.warn(
                    f"the budget was {before} and is {self.plan.budget}: the schedule depends on it, "
                    f"so the learning rate continues at {lr[1]:.3g} instead of {lr[0]:.3g}"
                )

    def _save(self) -> None:
        feed, blob = self._feed.state()
        state = {
            "loop": asdict(self.state),
            "callbacks": {name: c.state() for name, c in named(self._callbacks).items()},
            "penalties": self._penalties.state(),
            "data": self._data.mixture.state(),
            "feed": feed,
            "budget": str(self.plan.budget),
            "versions": dict(self.plan.versions),
            "inputs": dict(self.plan.inputs),
        }
        self._checkpoints.save(
            self._strategy.state(), state, step=self.state.step, score=self._score, blob=blob
        )
        self._saved_at = self.state.step

    def _load(self, saved: Saved) -> dict[str, Any]:
        tensors = self._strategy.state()
        state = self._checkpoints.load(saved, tensors)
        self._strategy.load(tensors)
        self._feed.load(state["feed"], self._checkpoints.blob(saved))
        self._penalties.load(state.get("penalties", {}))
        self.state = State(**state["loop"])
        self._saved_at = self.state.step
        return state

    def _emit(self, event: str, **fields: Any) -> dict[str, Any]:
        return self._log.emit(event, stage=self.plan.stage, **{"step": self.state.step, **fields})
