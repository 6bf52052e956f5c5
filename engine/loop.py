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

from engine.checkpoint import Checkpoints, Saved
from engine.compiling import compiled
from engine.component import (
    Batch,
    Callback,
    Progress,
    RollBack,
    Schedule,
    Stop,
    Strategy,
)
from engine.config import Amount
from engine.devices import forget_peak, peak_memory
from engine.errors import RunError
from engine.feed import Feed
from engine.launch import Process, Signals
from engine.log import EventLog
from engine.plan import Evaluation, Outcome, Plan, State, crossed, named
from engine.replicas import find_fault
from engine.requests import Score, seed_of
from engine.saved_state import understood
from engine.terms import counts, means, read

_SKIPS_ALLOWED = 50
"""Skipped steps in a row after which training has failed: fp16's scale finds its level in fewer."""
_WINDOWS_KEPT = 256
"""Steps whose data a roll-back can still leave out."""


class Loop:
    """One train stage's loop. Reads as: resume, step until done, finish."""

    def __init__(
        self,
        plan: Plan,
        *,
        feed: Feed,
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
        self._feed = feed
        self._strategy = strategy
        self._schedule = schedule
        self._callbacks = callbacks
        self._checkpoints = checkpoints
        self._process = process
        self._log = log
        self._on_step = on_step
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
            if self.plan.check_every and crossed(self.plan.check_every, before, now):
                self._check()
            for evaluation in self.plan.evaluations:
                # The one at the end of the stage is made there, whatever the interval.
                due = evaluation.every and crossed(evaluation.every, before, now)
                if due and not self._ended():
                    action = self._evaluate(evaluation) or action
            if isinstance(action, Stop):
                self.state.ended = action.reason
                self._say("ended_early", reason=action.reason)
            if self._ended():
                return "done"
            self._checkpoints.poll()
            if crossed(self.plan.checkpoint_every, before, now):
                self._save()

    def _step(self) -> dict[str, Any] | None:
        """One optimizer step and its figures; None where a signal asks any rank to stop."""
        started = time.perf_counter()
        plan, state, strategy = self.plan, self.state, self._strategy
        taken = self._feed.take(state, self.progress(), self._stopping)
        if taken is None:
            return None
        micro_batches, cursor = taken.micro_batches, taken.cursor
        forget_peak(self._process.device)
        totals = strategy.all_sum({**counts(micro_batches), "stop": float(self._signals.count)})
        if totals.pop("stop"):
            return None
        tokens = int(totals.pop("tokens"))
        self._probe = micro_batches[:1]
        torch.manual_seed(seed_of(plan.seed, state.step, strategy.data_rank))
        lr = plan.lr * self._schedule(self.progress())
        with compiled(micro_batches, plan.sequence) if plan.compile else nullcontext():
            sums = strategy.forward_backward(micro_batches, totals)
        limit = min((c.spike_limit for c in self._callbacks), default=math.inf)
        step = strategy.step(lr, plan.clip, limit)
        norms = {f"grad_norm/{name}": norm for name, norm in step.companions.items()}
        summed, told = read(sums, {"skipped": step.skipped, "grad_norm": step.grad_norm, **norms})
        skipped = bool(told.pop("skipped"))
        # All ranks must read one clock, or they would not agree on when the time is up.
        own = {"seconds": time.perf_counter() - started}
        figures = strategy.all_sum({**summed, **own})
        seconds = figures.pop("seconds") / strategy.data_size
        state.step += 1
        state.tokens += tokens
        state.samples += taken.samples
        state.seconds += seconds
        state.skipped = state.skipped + 1 if skipped else 0
        state.windows = [*state.windows[1 - _WINDOWS_KEPT :], (state.step, taken.start, cursor)]
        state.cursor = cursor
        self._score = None
        return {
            "step": state.step,
            "tokens": state.tokens,
            **means(figures, totals),
            **taken.figures,
            "lr": lr,
            **told,
            "skipped": skipped,
            "tokens_per_second": round(tokens / seconds, 1),
            "memory": peak_memory(self._process.device),
        }

    def _stopping(self) -> bool:
        """Whether a signal asks any rank to stop."""
        return self._strategy.all_sum({"stop": float(self._signals.count)})["stop"] > 0

    def _tell(self, figures: dict[str, Any]) -> Stop | RollBack | None:
        """Logs a step and asks the callbacks what to do."""
        event = self._say("step", **figures)
        self._on_step(event)
        self._log.display.progress(
            self.plan.stage,
            min(self.progress().reached(self.plan.budget), 0.999),
            1.0,
            f"loss {event['loss']:.3f} · {event['tokens_per_second']:,.0f} tok/s",
        )
        actions = [callback.step_finished(event) for callback in self._callbacks]
        if self.state.skipped >= _SKIPS_ALLOWED:
            norms = ", ".join(
                f"gradient norm{name.removeprefix('grad_norm').replace('/', ' of ')} {value}"
                for name, value in figures.items()
                if name.startswith("grad_norm")
            )
            raise RunError(
                f"{self.plan.stage}: {_SKIPS_ALLOWED} steps in a row were skipped, the last with "
                f"loss {figures['loss']} and {norms}",
                mend="lower the learning rate, use bf16, or look at the data with `engine data`",
            )
        return next((action for action in actions if action is not None), None)

    def progress(self) -> Progress:
        """The counters that schedule, ramp, budget and intervals read."""
        state = self.state
        epochs = self._done_with() / max(1, self._feed.data.epoch_size)
        return Progress(state.step, state.tokens, epochs, state.seconds, self.plan.budget)

    def _done_with(self) -> int:
        """Samples that a pass need not come back to: those that were used, and those left out.

        Never more than were taken: a round of which a part was used may be left out afterwards.
        """
        state = self.state
        left_out = self._feed.data.left_out(state.cursor, state.excluded)
        return min(state.samples + left_out, state.cursor)

    def _ended(self) -> bool:
        budget = self.plan.budget
        if budget.unit == "epochs":  # to the sample, which a share of an epoch cannot tell
            reached = self._done_with() >= self._feed.data.end(budget)
        else:
            reached = self.progress().reached(budget) >= 1
        return self.state.ended is not None or reached

    def _evaluate(self, evaluation: Evaluation) -> Stop | None:
        action: Stop | None = None
        for score in evaluation.run():
            self._scores.append(score)
            if evaluation is self.plan.evaluations[0] and self._score is None:
                self._score = -score.value if score.higher_is_better else score.value
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

    def _check(self) -> None:
        """Raises RunError for a fault, having dropped the checkpoints that may have it, too."""
        wrong = find_fault(self._strategy, self._probe, self._process)
        if wrong is None:
            self._sound_at = self.state.step
            return
        self._checkpoints.wait()
        self._checkpoints.drop_after(self._sound_at)
        raise RunError(
            f"{self.plan.stage}: at step {self.state.step} (not yet at {self._sound_at}): {wrong}",
            mend="a memory or processor there fails; run again without it: it goes on from before",
        )

    def _roll_back(self, action: RollBack) -> None:
        """Back to the last checkpoint before the bad steps, whose data is left out from now on.

        Callbacks keep their state: they have lived through it.
        """
        self._checkpoints.wait()
        good = self.state.step - action.steps
        bad = [(start, end) for step, start, end in self.state.windows if step > good]
        excluded = sorted({*((a, b) for a, b in self.state.excluded), *bad})
        saved: Saved | None = self._process.broadcast(self._checkpoints.latest(before=good))
        if saved is None:
            raise RunError(
                f"{self.plan.stage}: {action.reason}, and no checkpoint from before step {good + 1}",
                mend="write checkpoints more often, or keep more of them",
            )
        # Killed from here on, the run finds the good checkpoint, and comes here again.
        self._checkpoints.drop_after(saved.step)
        self._load(saved)
        self.state.excluded = excluded
        self.state.cursor = self._feed.data.after(self.state.cursor, excluded)
        self._say("rolled_back", step=saved.step, reason=action.reason, excluded=bad)
        self._save()

    def _resume(self, saved: Saved) -> None:
        with understood(saved.folder):
            self._take_up(self._load(saved))

    def _take_up(self, state: Mapping[str, Any]) -> None:
        data = self._feed.data
        self._say("resumed")
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
                    f"the budget was {before} and is {self.plan.budget}: the schedule is tied to it,"
                    f" so the learning rate goes on at {lr[1]:.3g} instead of {lr[0]:.3g}"
                )

    def _save(self) -> None:
        feed, blob = self._feed.state()
        state = {
            "loop": asdict(self.state),
            "callbacks": {name: c.state() for name, c in named(self._callbacks).items()},
            "data": self._feed.data.mixture.state(),
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
        self.state = State(**state["loop"])
        self._saved_at = self.state.step
        return state

    def _say(self, event: str, **fields: Any) -> dict[str, Any]:
        return self._log.emit(event, stage=self.plan.stage, **{"step": self.state.step, **fields})
