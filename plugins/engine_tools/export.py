"""Exports a stage's model with a model card."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path

from engine import (
    OpenedStage,
    RunError,
    cleaned,
    open_stage,
    read_json,
)


def export_model(stage: Path, folder: Path) -> None:
    """Copies a stage's model and writes its card. Raises RunError, SpecError."""
    opened = open_stage(stage)
    artifact = opened.artifact()
    artifact.verify()
    card = _model_card(opened)
    partial = folder.with_name(f".partial-{folder.name}")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder}: is not empty", hint="choose a new folder")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        artifact.copy(partial)
        (partial / "README.md").write_text(card, encoding="utf-8")
        os.replace(partial, folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RunError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _model_card(opened: OpenedStage) -> str:
    """A model card: data and licences, training, scores."""
    summary = opened.summary()
    lines = [f"# {opened.run_name} / {opened.name}", ""]
    lines += [
        f"{summary['parameters']:,} parameters, trained on {summary['tokens']:,} tokens "
        f"in {summary['steps']:,} steps.",
        "",
        "## Scores",
        "",
        "| metric | value | standard error | n |",
        "|---|---|---|---|",
    ]
    for score in summary["scores"]:
        error, n = score.get("stderr"), score.get("n", "")
        stderr = "" if error is None else f"{error:.3g}"
        lines.append(f"| {_cell(score['metric'])} | {score['value']:.5g} | {stderr} | {n} |")
    card = opened.data_summary() or {"sources": []}
    lines += ["", "## Data", "", "| source | documents | bytes | licences |", "|---|---|---|---|"]
    for source in card["sources"]:
        licences = _cell(", ".join(source["licenses"]))
        name = _cell(source["source"])
        lines.append(f"| {name} | {source['documents']:,} | {source['bytes']:,} | {licences} |")
    lines += ["", "## Opening", "", f"Opens with {way_to_open(opened.path / 'final')}."]
    lines += ["", "## Spec", "", "```yaml", opened.resolved().rstrip(), "```", ""]
    return "\n".join(lines)


def way_to_open(folder: Path) -> str:
    """What opens a model's folder, as a clause: the plugin of its architecture, too, if it has one."""
    plugin = read_json(folder / "config.json").get("engine_plugin")
    if plugin is None:
        return "transformers' Auto classes"
    needs = cleaned(f"{plugin['distribution']} {plugin['version']}")
    return (
        f"transformers' Auto classes after engine.register_architectures(), with {needs} installed"
    )


def _cell(text: str) -> str:
    """Escapes a text from the data for a cell of a Markdown table."""
    return re.sub(r"[\\`*\[\]<>|&$]", r"\\\g<0>", " ".join(cleaned(text).split()))
