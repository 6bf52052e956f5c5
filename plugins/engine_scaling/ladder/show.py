"""What a person sees of a ladder while it is climbed, and at its end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from rich.markup import escape
from rich.status import Status

from engine import Terminal
from engine_scaling.ladder.predictions import Attempt, HeldOut
from engine_scaling.ladder.results import Climbed, coverage_line, label, loss_of
from engine_scaling.ladder.rungs import Ladder
from engine_scaling.ladder.speed import Speed
from engine_scaling.laws.believed import Belief
from engine_scaling.runner import Event, Job, Outcome

_OFTEN = 0.2
"""Seconds between two looks at a run's progress."""


class Show:
    """Prints to a terminal; nothing if it is ``silent``."""

    def __init__(self, *, silent: bool = False) -> None:
        self._console = Terminal(quiet=silent)

    def preparing(self, event: Event) -> None:
        """Tells that the corpus is prepared."""
        if event.get("event") == "stage_started":
            self._say("preparing the text that all runs share …")

    def planned(
        self, speed: Speed, budgets: Sequence[float], ladder: Ladder, seconds: float
    ) -> None:
        """Tells what was measured and chosen; ``seconds``: the time of the fitted runs."""
        self._say(
            f"speed: {speed.step_seconds * 1000:.1f} ms a step and {speed.flops_per_second / 1e9:.1f} "
            f"GFLOP/s; {speed.fixed_seconds:.0f} s a run for all else"
        )
        self._say(f"budgets: {', '.join(f'{budget:.2g}' for budget in budgets)} FLOPs")
        self._say(
            f"fitted runs: about {duration(seconds)} in all; more where the best size is at an edge"
        )
        self._say(f"text: {ladder.unique:,.0f} tokens before any is seen again")

    def ahead(self, one: HeldOut, seconds: float) -> None:
        """Tells of a held-out run before the fit chooses its size."""
        self._say(f"held out later: {label(str(one))}, about {duration(seconds)}")

    def impossible(self, one: HeldOut, why: str) -> None:
        """Warns that a held-out run can probably not be made."""
        self._console.print(
            escape(f"held out later: {label(str(one))} can probably not be made: {why}"),
            style="yellow",
            soft_wrap=True,
        )

    def watcher(self, title: str, jobs: Sequence[Job]) -> Table:
        """A table of the jobs that grows as they end."""
        return Table(self._console, title, jobs)

    def believed(self, belief: Belief) -> None:
        """Tells which law is believed."""
        law = belief.law.best
        self._say(
            f"\nlaw: L = {law.E:.3f} + {law.A:.4g}/N^{law.alpha:.3f} + {law.B:.4g}/D^{law.beta:.3f} "
            f"({belief.variants[0].name})"
        )

    def held_out(self, attempt: Attempt) -> None:
        """Names the held-out runs, what is predicted of them, and how long they will take."""
        total = sum(run.seconds for run in attempt.runs)
        self._say(
            f"\nheld out (attempt {attempt.number}, predicted on {attempt.date}), about "
            f"{duration(total)} in all:"
        )
        for run in attempt.runs:
            self._say(
                f"  {label(run.held_out):<22}{run.parameters:>11,} parameters{duration(run.seconds):>9}"
                f"  {run.loss:.4f} [{run.low:.4f}, {run.high:.4f}]"
            )

    def result(self, climbed: Climbed, folder: Path) -> None:
        """Shows how the predictions turned out, and where it all stands."""
        for title, runs in climbed.remarks.items():
            for name, why in runs.items():
                self._say(f"{title}: {name}: {why}")
        self._results(climbed)
        self._say(f"\n{folder / 'results.md'}, and plots beside it")

    def _results(self, climbed: Climbed) -> None:
        if not climbed.results:
            return
        head = ("held out", "measured", "predicted", "law", "line", "last rung")
        self._say("\n{:<26}{:>10}{:>11}{:>9}{:>9}{:>11}".format(*head))
        for one in climbed.results:
            run = one.prediction
            self._say(
                f"{label(run.held_out):<26}{one.measured:>10.4f}{run.loss:>11.4f}{one.error:>+9.2%}"
                f"{one.line_error:>+9.2%}{one.last_rung_error:>+11.2%}{'' if one.inside else ' miss'}"
            )
        self._say(coverage_line(climbed))

    def _say(self, text: str) -> None:
        self._console.print(escape(text), soft_wrap=True)


class Table:
    """See :class:`engine_scaling.runner.Watcher`: a line for each job that has ended, and below them,
    on a terminal, how far the present one is."""

    def __init__(self, console: Terminal, title: str, jobs: Sequence[Job]) -> None:
        self._console, self._title, self._began = console, title, False
        self._columns = list(jobs[0].about) if jobs else []
        self._status: Status | None = None
        self._looked = 0.0

    def started(self, job: Job) -> None:
        """See :class:`engine_scaling.runner.Watcher`."""
        self._head()
        if self._console.is_terminal and not self._console.quiet:
            self._status = Status(escape(job.name), console=self._console)
            self._status.start()

    def event(self, job: Job, event: Event) -> None:
        """See :class:`engine_scaling.runner.Watcher`."""
        now = time.monotonic()
        if self._status is None or event.get("event") != "step" or now < self._looked + _OFTEN:
            return
        self._looked = now
        steps = job.about.get("steps", "?")
        text = f"{job.name}: step {event.get('step')} of {steps}, loss {event.get('loss'):.3f}"
        self._status.update(escape(text))

    def ended(self, outcome: Outcome) -> None:
        """See :class:`engine_scaling.runner.Watcher`."""
        if self._status is not None:
            self._status.stop()
            self._status = None
        self._head()
        cells = [outcome.job.about.get(name, "") for name in self._columns]
        took = duration(outcome.seconds) if outcome.seconds else "before"
        end = f"{loss_of(outcome):.4f}" if outcome.status == "done" else "failed"
        self._line([outcome.job.name, *cells, duration(outcome.job.seconds), took, end])
        if outcome.reason:
            self._console.print(escape(f"  {outcome.reason}"), soft_wrap=True)

    def _head(self) -> None:
        if not self._began:
            self._began = True
            self._console.print(escape(f"\n{self._title}"))
            self._line(["run", *self._columns, "about", "took", "loss"])

    def _line(self, cells: Sequence[str]) -> None:
        widths = [26, *(10 if name != "steps" else 8 for name in self._columns)]
        first, *rest = cells[: len(widths)]
        text = f"{first:<26}" + "".join(f"{c:>{w}}" for c, w in zip(rest, widths[1:], strict=True))
        text += "".join(f"{c:>{w}}" for c, w in zip(cells[len(widths) :], (8, 8, 9), strict=True))
        self._console.print(escape(text), soft_wrap=True)


def duration(seconds: float) -> str:
    """``4:05`` or ``1:02:03``; ``?`` if unknown."""
    if seconds != seconds:  # NaN
        return "?"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
