"""The summary at the end of a run: where the models are, their scores, and how to talk to them."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.markup import escape

from engine.cli.comparison import NOTE, clean_note, comparison, is_clean
from engine.contracts.scoring import score_text
from engine.contracts.spec import Spec
from engine.event_log import score_name
from engine.files.reading import read_json
from engine.storage.run_folder import RunFolder
from engine.terminal.console import Terminal


def print_summary(folder: RunFolder, spec: Spec, status: str) -> None:
    """Prints the summary to standard output."""
    console = Terminal(soft_wrap=True)
    console.print()
    if status != "done":
        console.print(f"[bold]{spec.name}[/] is not finished: {_how_to_go_on(folder, spec)}.")
        return
    for name in spec.order:
        standing = folder.standing(name)
        if standing is None or standing.status != "done":
            continue
        if evaluate := spec.stages[name].evaluate:
            scores = standing.summary["scores"]
            models = standing.summary.get("models") or evaluate.model_names()
            console.print(comparison(name, scores, models, console), soft_wrap=False)
        elif spec.stages[name].train:
            for line in _trained(folder, spec, name, standing.summary):
                console.print(line)
        elif (page := folder.path / name / "card.html").is_file():
            console.print(f"[bold]{name}[/]: what became of its documents: {escape(str(page))}")


def _how_to_go_on(folder: RunFolder, spec: Spec) -> str:
    """How to continue a run: a train stage resumes from its checkpoints, an evaluation from its rows, a
    preparation from its parts; any other stage starts over."""
    for name in spec.order:
        standing = folder.standing(name)
        if standing is None or standing.status == "done" or spec.stages[name].evaluate:
            continue
        if spec.stages[name].prepare:
            return f"run the same command; '{name}' goes on from the parts that are done"
        if not any((folder.path / name / "checkpoints").glob("step-*")):
            return f"run the same command; '{name}' starts over, finished stages are kept"
    return "run the same command to continue"


def _trained(folder: RunFolder, spec: Spec, name: str, summary: Mapping[str, Any]) -> Iterator[str]:
    yield (
        f"[bold]{name}[/]  {_short(summary['parameters'])} parameters, "
        f"{_short(summary['tokens'])} tokens in {_time(summary['training_seconds'])}"
    )
    for score in summary["scores"]:
        label = score_name(score).replace("_", " ")
        items = f"  ({score['n']:,} items)" if is_clean(score) else ""
        yield f"  {escape(label):<24} {escape(score_text(score))}{items}"
    if any("±" in score_text(score) for score in summary["scores"]):
        yield NOTE
    yield from clean_note(summary["scores"])
    card = _card(folder, spec, name)
    for compressor in ("gzip", "xz"):
        figure = card.get(f"{compressor}_bits_per_byte")
        if figure and any(s["metric"] == "bits_per_byte" for s in summary["scores"]):
            yield f"  {compressor + ' -9, the same text':<24} {figure:.4g}"
    path = folder.path / name
    yield f"  model    {escape(str(path))}/final"
    train = spec.stages[name].train
    if train is not None and train.objective.head != "scalar":
        yield f"  talk     {escape(_talk(path, summary))}"


def _talk(path: Path, summary: Mapping[str, Any]) -> str:
    """The command that lets a model speak, as a shell takes it: one with a chat template answers,
    others continue what the first training text begins with."""
    final, where = path / "final", shlex.quote(str(path))
    with contextlib.suppress(OSError, ValueError):  # removed since
        if (final / "chat_template.jinja").is_file() or "chat_template" in read_json(
            final / "tokenizer_config.json"
        ):
            return f"engine chat {where}"
    return f"engine generate {where} --prompt {shlex.quote(summary.get('opening') or 'The ')}"


def _card(folder: RunFolder, spec: Spec, name: str) -> Mapping[str, Any]:
    for other in spec.dependencies(name):
        standing = folder.standing(other)
        if standing and "holdout" in standing.summary:
            card: Mapping[str, Any] = standing.summary["holdout"]
            return card
    return {}


def _short(number: float) -> str:
    for size, letter in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.3g}{letter}"
    return str(int(number))


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"
