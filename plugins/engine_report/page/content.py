"""What the page shows of runs: tables, charts and texts, in the order in which they stand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from engine import RunHistory
from engine_report.page.cards import DataCard, cards_of
from engine_report.page.figures import RunFigures, Sample, StageFigures, labels_of
from engine_report.page.matrix import NOTHING, Matrix, count, duration, moment, precise
from engine_report.page.outcome import compared
from engine_report.page.scores import at_checkpoints, last_scores, over_steps
from engine_report.page.specs import SpecLine, differences, spec_lines
from engine_report.page.titles import Title, grouped, tells_stability, title_of

_WHOLE_SPECS = 10
"""Specs that are shown whole; of more runs, only the first one's, beside the differences of all."""
_LISTED = 30
"""Skipped steps that are named."""


@dataclass(frozen=True, slots=True)
class Chart:
    """A chart: ``kind`` names its template; ``name`` is the figure, or the evaluator and the metric."""

    kind: str
    stage: str
    name: str
    title: str
    unit: str
    factor: float = 1.0
    format: str = ""
    decimals: int | None = None
    marked: bool = False

    @property
    def axis(self) -> str:
        """The title of the vertical axis."""
        return self.unit or self.title[:1].lower() + self.title[1:]


@dataclass(frozen=True, slots=True)
class StagePart:
    """What the page shows of a train stage: what went wrong, charts by group, tables."""

    name: str
    alarms: list[str]
    charts: dict[str, list[int]]
    outcome: Matrix
    extremes: Matrix
    skipped: list[str]


@dataclass(frozen=True, slots=True)
class Content:
    """All that the template shows."""

    title: str
    runs: Sequence[RunFigures]
    overview: Matrix
    differences: Matrix | None
    stages: list[StagePart]
    scores: Matrix
    score_charts: list[int]
    checkpoints: list[tuple[str, Matrix]]
    samples: list[tuple[str, list[tuple[str, list[Sample]]]]]
    cards: list[DataCard]
    specs: list[tuple[str, bool, list[SpecLine]]]
    versions: Matrix
    charts: list[Chart] = field(default_factory=list)


def content_of(histories: Sequence[RunHistory], runs: Sequence[RunFigures]) -> Content:
    """What the page shows of these runs, whose figures are ``runs``."""
    labels = labels_of(histories)
    several = len(runs) > 1
    scores = [run.scores for run in runs]
    content = Content(
        title=f"{len(runs)} runs" if several else labels[0],
        runs=runs,
        overview=_overview(runs),
        differences=differences(labels, [run.spec for run in histories]) if several else None,
        stages=[],
        scores=last_scores(labels, scores),
        score_charts=[],
        checkpoints=[
            (f"{run.label}, {stage}" if several else stage, matrix)
            for run in runs
            for stage, matrix in at_checkpoints(run.scores)
        ],
        samples=_samples(runs),
        cards=cards_of(labels, histories),
        specs=[
            (label, "given" in run.manifest, spec_lines(run.spec, run.manifest.get("given")))
            for label, run in zip(labels, histories, strict=True)
            if run.spec
        ][: _WHOLE_SPECS if len(runs) <= _WHOLE_SPECS else 1],
        versions=_versions(labels, histories),
    )
    for name in dict.fromkeys(name for run in runs for name in run.stages):
        part = _stage(name, runs, content.charts)
        if part is not None:
            content.stages.append(part)
    for stage, evaluator, metric in over_steps(scores):
        title = metric if metric == evaluator else f"{evaluator}: {metric}"
        chart = Chart("score", stage, f"{evaluator}/{metric}", title.replace("_", " "), "")
        content.score_charts.append(len(content.charts))
        content.charts.append(chart)
    return content


def _overview(runs: Sequence[RunFigures]) -> Matrix:
    """A row for each run: its status, when it started, how long it trained, how far it came."""
    rows = []
    for run in runs:
        stages = ", ".join(_state(name, stage) for name, stage in run.stages.items())
        lost = any("loss" in stage.not_finite for stage in run.stages.values())
        status = f"{run.status}, loss not finite" if lost else run.status
        rows.append(
            (run.label, [status, moment(run.started), duration(run.training_seconds), stages])
        )
    return Matrix(
        "run", ("status", "started", "time of training steps", "stages"), rows, numeric=False
    )


def _state(name: str, stage: StageFigures) -> str:
    """The stage's status, and what tells that it did not go as it should have."""
    faults = []
    if "loss" in stage.not_finite:
        faults.append(f"loss not finite since step {stage.not_finite['loss']:,}")
    if stage.ended_early is not None:
        faults.append("ended early")
    return f"{name} {stage.status}" + (f" ({'; '.join(faults)})" if faults else "")


def _alarms(stage: StageFigures, of: str) -> list[str]:
    """That the training of a stage has diverged, or has ended early."""
    told = []
    for name, step in stage.not_finite.items():
        drawn = ", the dotted line in its chart" if name in stage.extremes else ""
        told.append(f"{of}{title_of(name).text} is not finite since step {step:,}{drawn}.")
    return told if stage.ended_early is None else [*told, f"{of}Ended early {stage.ended_early}"]


def _stage(name: str, runs: Sequence[RunFigures], charts: list[Chart]) -> StagePart | None:
    own = [(run.label, run.stages[name]) for run in runs if name in run.stages]
    own = [(label, stage) for label, stage in own if stage.verb in ("train", "")]
    if not any(stage.curves.step or stage.planned for _, stage in own):
        return None
    names = list(dict.fromkeys(figure for _, stage in own for figure in stage.extremes))
    groups: dict[str, list[int]] = {}
    for group, figures in grouped(names).items():
        for figure in figures:
            groups.setdefault(group, []).append(len(charts))
            charts.append(_chart(name, figure, title_of(figure)))
    several = len(runs) > 1
    rows = []
    for figure in (figure for figures in grouped(names).values() for figure in figures):
        title = title_of(figure)
        for label, stage in own:
            if figure in stage.extremes:
                low_at, low, high_at, high = stage.extremes[figure]
                head = ", ".join(filter(None, (title.text, title.unit, label if several else "")))
                form = precise if title.decimals else "{:.4g}".format
                ends = [form(value * title.factor) for value in (low, high)]
                rows.append((head, [ends[0], count(low_at), ends[1], count(high_at)]))
    skipped, alarms = [], []
    for label, stage in own:
        of = f"{label}: " if several else ""
        alarms += _alarms(stage, of)
        if stage.skips:
            steps = ", ".join(f"{step:,}" for step in stage.skipped[:_LISTED])
            more = ", …" if stage.skips > _LISTED else ""
            many = "step was" if stage.skips == 1 else "steps were"
            skipped.append(f"{of}{stage.skips:,} {many} skipped: {steps}{more}")
        skipped += [f"{of}rolled back to step {n:,}: {why}" for n, why in stage.rolled_back]
    return StagePart(
        name,
        alarms,
        groups,
        compared([label for label, _ in own], [(s.planned, s.reached) for _, s in own]),
        Matrix("figure", ("least", "at step", "greatest", "at step"), rows),
        skipped,
    )


def _chart(stage: str, name: str, title: Title) -> Chart:
    return Chart(
        "curve", stage, name, title.text, title.unit, title.factor, title.format, title.decimals,
        tells_stability(name),
    )  # fmt: skip


def _samples(runs: Sequence[RunFigures]) -> list[tuple[str, list[tuple[str, list[Sample]]]]]:
    """The samples by stage and prompt, in the order of their steps."""
    found = []
    for run in runs:
        for stage in dict.fromkeys(sample.stage for sample in run.samples):
            own = [sample for sample in run.samples if sample.stage == stage]
            prompts = dict.fromkeys(sample.prompt for sample in own)
            told = [(prompt, [one for one in own if one.prompt == prompt]) for prompt in prompts]
            found.append((f"{run.label}, {stage}" if len(runs) > 1 else stage, told))
    return found


def _versions(labels: Sequence[str], histories: Sequence[RunHistory]) -> Matrix:
    """The versions that each run was made with, and its machine."""
    own = [dict(_flat(run.manifest)) for run in histories]
    names = dict.fromkeys(name for one in own for name in one)
    rows = [(name, [one.get(name, NOTHING) for one in own]) for name in names]
    return Matrix("", labels, rows, numeric=False).narrow()


def _flat(manifest: Mapping[str, Any]) -> list[tuple[str, str]]:
    flat: list[tuple[str, str]] = []
    for name, value in manifest.items():
        if name == "plugins" and isinstance(value, dict):
            # Most plugins come with the engine: each distribution once.
            for made_by in dict.fromkeys(map(str, value.values())):
                own = [part for part, one in value.items() if str(one) == made_by]
                flat.append((f"plugins of {made_by}", ", ".join(own)))
        elif isinstance(value, dict):
            flat += [(part, str(own)) for part, own in value.items() if name != "given"]
        else:
            flat.append((name.replace("_", " "), str(value)))
    return flat
