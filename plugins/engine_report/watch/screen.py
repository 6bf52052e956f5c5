"""What the terminal shows of a run: stages, progress, figures, the loss's curve, scores, warnings."""

from __future__ import annotations

import difflib
import time
from collections.abc import Iterator
from pathlib import Path

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine import StageHistory, score_interval, score_name
from engine_report.watch.plot import curve
from engine_report.watch.progress import Event, progress_of
from engine_report.watch.watched import Watched
from engine_report.watch.words import duration, figure, number_of

_FIRST = ("loss", "lr", "grad_norm", "tokens_per_second", "utilisation", "memory")
"""Figures that stand first, where there are any; others follow."""
_HIDDEN = {"step", "tokens", "time", "skipped", "rank"}
_MOST_FIGURES = 12
_MOST_SCORES = 8
_HIGHEST, _LOWEST = 12, 3
"""Lines of the curve."""
_COLOURS = {
    "done": "green",
    "running": "cyan",
    **dict.fromkeys(("failed", "quiet", "trouble"), "red"),
    **dict.fromkeys(("stopped", "idle", "waiting"), "yellow"),
}
"""Of the states of runs and of stages."""


class Screen:
    """The whole view, made for the size of the console that it is shown on."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._drawn: tuple[object, list[Text]] = (None, [])

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        above = Group(*_above(self._watched))
        below = Group(*_below(self._watched))
        taken = sum(len(console.render_lines(part, options)) for part in (above, below))
        # One line for the curve's caption, one for its axis, and one that the cursor stands in.
        room = (options.height or console.height) - taken - 3
        stage = shown_stage(self._watched)
        yield above
        if stage and room >= _LOWEST:
            yield from self._curve(
                stage, options.max_width, min(room, _HIGHEST), options.ascii_only
            )
        yield below

    def _curve(self, stage: StageHistory, *size: int) -> list[Text]:
        """The curve, drawn again only if there is another step or size."""
        last = self._watched.steps[stage.name]
        if self._drawn[0] != (last, size):
            self._drawn = ((last, size), list(_curve(stage, last, *size)))
        return self._drawn[1]


def shown_stage(watched: Watched) -> StageHistory | None:
    """The stage whose steps are shown: the one that is running, else the last that has any."""
    stages = [stage for stage in watched.begun if stage.name in watched.steps]
    running = watched.running
    return running if running in stages else next(reversed(stages), None)


def state(watched: Watched) -> tuple[str, str]:
    """How the run is doing, in a word and in a line."""
    history, quiet = watched.history, watched.quiet_seconds
    match watched.end:
        case "failed":
            return "failed", f"failed: {history.last.get('error', '')}"
        case "done":
            return "done", "done"
        case "stopped":
            return "stopped", "stopped; the same command goes on"
    if watched.trouble:
        return "trouble", f"{watched.trouble}; trying again"
    if quiet is None:
        return "waiting", f"waiting: {missing(watched.path)}"
    if not watched.history.last:
        return "idle", f"no event yet; the folder was changed {duration(quiet)} ago"
    if watched.running is None and history.stages:
        return "idle", f"no stage is running; the last sign of life was {duration(quiet)} ago"
    if watched.is_quiet:
        return "quiet", (
            f"no sign of life for {duration(quiet)}: killed, or in a long step; "
            "if it was killed, the same command goes on"
        )
    return "running", f"running, the last sign of life {duration(quiet)} ago"


def missing(path: Path) -> str:
    """Why there is nothing to show of a run that has not started, with a run of a name like it."""
    if path.is_dir():
        return f"{path} has no run yet"
    there = sorted(file.parent.name for file in path.parent.glob("*/resolved.yaml"))
    near = difflib.get_close_matches(path.name, there, n=1)
    hint = f"; did you mean '{path.parent / near[0]}'?" if near else ""
    return f"there is no folder {path} yet{hint}"


def divergence(stage: StageHistory) -> str | None:
    """That the loss is lost, and since when; None where it is not."""
    since = stage.steps.not_finite_since("loss")
    return None if since is None else f"loss is not finite since step {since:,}"


def early_end(stage: StageHistory) -> str | None:
    """That a training ended before its budget was spent, or was stopped, and why; None for another."""
    last = stage.ended_early if stage.status == "done" else None
    if last is not None:
        return f"ended early at step {stage.steps.last:,}: {last.get('reason')}"
    told = stage.events[-1] if stage.events else {}
    if stage.status == "stopped" and told.get("event") == "stopped":
        return f"stopped at step {stage.steps.last:,}: {told.get('reason')}"
    return None


def step_line(watched: Watched, stage: StageHistory) -> str:
    """How far a stage has come: ``step 620 of 1,000 · 62 % · 4 min 12 s left``."""
    parts = [f"step {stage.steps.last:,}"]
    found = progress_of(stage, watched.history.spec)
    if found is not None:
        if found.unit == "steps":
            parts[0] += f" of {found.total:,.0f}"
        elif found.unit == "seconds":
            parts.append(f"{duration(found.done)} of {duration(found.total)}")
        else:
            done = f"{found.done:.2f}" if found.unit == "epochs" else f"{found.done:,.0f}"
            parts.append(f"{done} of {found.total:,.0f} {found.unit}")
        parts.append(f"{found.share:.0%}")
        left = found.seconds_left(watched.pace.get(stage.name, ()))
        if left is not None and stage.status == "running":
            parts.append(f"{duration(left)} left")
    return " · ".join(parts)


def _above(watched: Watched) -> Iterator[RenderableType]:
    """Name, state and stages; progress and figures of the stage whose steps are shown."""
    word, line = state(watched)
    yield Text.assemble((watched.history.name, "bold"), "  ", (line, _COLOURS[word]))
    yield _stages(watched)
    stage = shown_stage(watched)
    if stage is None:
        return
    yield Text()
    found = progress_of(stage, watched.history.spec)
    row = Table.grid(padding=(0, 2))
    bar = [ProgressBar(total=1.0, completed=found.share, width=16)] if found else []
    row.add_row(Text(stage.name, style="bold"), *bar, Text(step_line(watched, stage)))
    yield row
    for told in filter(None, (divergence(stage), early_end(stage))):
        yield Text(told, style="yellow")
    yield _figures(watched.steps[stage.name])


def _stages(watched: Watched) -> Table:
    table = Table.grid(padding=(0, 2))
    for name in watched.planned:
        stage = watched.history.stages.get(name)
        status = stage.status if stage else "waiting"
        table.add_row(
            Text(name, overflow="ellipsis", no_wrap=True),
            Text(stage.verb if stage else ""),
            Text(status, style="dim" if stage is None else _COLOURS[status]),
            Text(_time_of(stage) if stage else ""),
        )
    return table


def _time_of(stage: StageHistory) -> str:
    """How long a stage took, or has been running since it was last started."""
    seconds = stage.summary.get("seconds") if stage.status == "done" else None
    if stage.status == "running":
        started = [e.get("time") for e in stage.events if e["event"] == "stage_started"]
        if started and (since := number_of(started[-1])) is not None:
            seconds = max(0.0, time.time() - since)
    known = number_of(seconds)
    return "" if known is None else duration(known)


def _figures(step: Event) -> Table:
    """The figures of the last step, three in a row."""
    others = (name for name in step if name not in _FIRST)
    names = [*(name for name in _FIRST if name in step), *others]
    told = [
        (name.replace("_", " "), figure(name, step[name]))
        for name in names
        if name not in _HIDDEN and isinstance(step[name], int | float)
    ][:_MOST_FIGURES]
    table = Table.grid(padding=(0, 2))
    for start in range(0, len(told), 3):
        cells = [cell for pair in told[start : start + 3] for cell in pair]
        table.add_row(*(Text(c, style="" if n % 2 else "dim") for n, c in enumerate(cells)))
    return table


def _curve(stage: StageHistory, last: Event, width: int, height: int, plain: int) -> Iterator[Text]:
    """The curve of the loss, or of the first figure of a stage without one."""
    named = [n for n, v in last.items() if n not in _HIDDEN and isinstance(v, int | float)]
    name = "loss" if "loss" in last else next(iter(named), "loss")
    steps = stage.steps.column("step")
    lines = curve(steps, stage.steps.column(name), width - 10, height, plain=bool(plain))
    if not lines:
        return
    yield Text(name.replace("_", " "), style="dim")
    for label, line in lines:
        yield Text.assemble((f"{label:>8}  ", "dim"), (line, "cyan"), no_wrap=True)
    first, end = f"{steps[0]:,.0f}", f"step {steps[-1]:,.0f}"
    yield Text(f"{'':10}{first}{end:>{max(0, width - 10 - len(first))}}", style="dim")


def _below(watched: Watched) -> Iterator[RenderableType]:
    """The last scores with their 95 % intervals, and the last warnings."""
    latest = {
        (stage.name, str(score.get("model")), score_name(score)): score
        for stage in watched.begun
        for score in stage.scores
    }
    if latest:
        table = Table.grid(padding=(0, 2))
        for (_, model, name), score in list(latest.items())[-_MOST_SCORES:]:
            step = score.get("step")
            at = f"{model}, step {step:,}" if isinstance(step, int) else model
            table.add_row(Text(name.replace("_", " ")), *_score(score), Text(at, style="dim"))
        yield table
    for message, count in watched.warnings.items():
        times = f" ({count:,} times)" if count > 1 else ""
        yield Text.assemble((f"warning{times}: ", "yellow"), message)
    if watched.history.damaged:
        yield Text(f"{watched.history.damaged:,} lines of the log are damaged", style="yellow")


def _score(score: Event) -> tuple[Text, Text]:
    if score.get("value") is None:
        return Text("not finite", style="yellow"), Text()
    try:
        low, high = score_interval(score)
        between = f"[{low:.4g}, {high:.4g}]" if low < high else ""
        return Text(f"{score['value']:.4g}"), Text(between)
    except (KeyError, TypeError, ValueError):
        return Text("-"), Text()
