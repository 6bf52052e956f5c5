"""What is there: runs, plugins, and a model to take along."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.table import Table

from engine.compose import Composer
from engine.errors import EngineError, RunError, SpecError
from engine.folder import RunFolder
from engine.plugins import Found, Plugins


def print_runs(runs: Path, as_json: bool) -> None:
    """Every run in a folder, its stages, and how they stand."""
    rows: list[tuple[str, dict[str, Any]]] = []
    for resolved in sorted(runs.glob("*/resolved.yaml")):
        folder = RunFolder(resolved.parent)
        spec = yaml.safe_load(resolved.read_text(encoding="utf-8"))
        stages = {name: _standing(folder, name) for name in spec["stages"]}
        rows.append((folder.path.name, stages))
    if as_json:
        _print_json([{"run": name, "stages": stages} for name, stages in rows])
        return
    if not rows:
        Console(highlight=False).print(f"no runs in {runs}")
        return
    table = Table("run", "stage", "status", "steps", "score", box=None)
    for run, stages in rows:
        for number, (name, standing) in enumerate(stages.items()):
            table.add_row(
                run if number == 0 else "",
                name,
                standing["status"],
                str(standing.get("steps", "")),
                standing.get("score", ""),
            )
    Console(highlight=False).print(table)


def print_plugins(as_json: bool, check: bool) -> int:
    """Every plugin with its components; with ``check``, status 1 if anything cannot be loaded."""
    installed = Plugins.discover()
    problems = _check(installed) if check else {}
    rows: list[dict[str, Any]] = [
        {
            "name": p.name,
            "distribution": p.distribution,
            "version": p.version,
            "status": "broken" if p.name in problems else p.status,
            "error": problems.get(p.name) or p.error,
            "components": {
                kind: [c.type for c in components] for kind, components in p.components.items()
            },
        }
        for p in installed.plugins
    ]
    if as_json:
        _print_json(rows)
    else:
        console = Console(highlight=False)
        for row in rows:
            colour = "green" if row["status"] == "ok" else "red"
            console.print(
                f"[bold]{row['name']}[/]  {row['distribution']} {row['version']}  "
                f"[{colour}]{row['status']}[/]"
            )
            if row["error"]:
                console.print(f"  {row['error']}", style="red", markup=False)
            for kind, types in row["components"].items():
                console.print(f"  {kind:<12} {', '.join(types)}")
    broken = [row for row in rows if row["status"] == "broken"]
    return 1 if check and broken else 0


def export_model(stage: Path, folder: Path) -> None:
    """Copies a stage's model and writes its card. Raises RunError, SpecError."""
    from engine import manifest
    from engine.opened import OpenedStage

    opened = OpenedStage.open(stage)
    artifact = opened.artifact()
    manifest.verify(artifact.folder)
    if folder.exists() and any(folder.iterdir()):
        raise RunError(f"{folder}: is not empty", mend="choose a new folder")
    partial = folder.with_name(f".partial-{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(artifact.folder, partial, ignore=shutil.ignore_patterns("manifest.json"))
    (partial / "README.md").write_text(_model_card(opened), encoding="utf-8")
    if folder.exists():
        folder.rmdir()
    os.replace(partial, folder)


def _model_card(opened: Any) -> str:
    """Where the model comes from: data and licences, training, scores."""
    run, name = opened.run, opened.name
    standing = run.folder.standing(name)
    summary = standing.summary
    lines = [f"# {run.spec.name} / {name}", ""]
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
        stderr = "" if score["stderr"] is None else f"{score['stderr']:.3g}"
        lines.append(f"| {score['metric']} | {score['value']:.5g} | {stderr} | {score['n']} |")
    data = run.data_stage(name)
    card = run.folder.standing(data).summary if data else {"sources": []}
    lines += ["", "## Data", "", "| source | documents | bytes | licences |", "|---|---|---|---|"]
    for source in card["sources"]:
        licences = ", ".join(source["licenses"])
        lines.append(
            f"| {source['source']} | {source['documents']:,} | {source['bytes']:,} | {licences} |"
        )
    resolved = (run.folder.path / "resolved.yaml").read_text(encoding="utf-8")
    lines += ["", "## Spec", "", "```yaml", resolved.rstrip(), "```", ""]
    return "\n".join(lines)


def _standing(folder: RunFolder, stage: str) -> dict[str, Any]:
    try:
        standing = folder.standing(stage)
    except EngineError as error:
        return {"status": "damaged", "error": str(error)}
    if standing is None:
        return {"status": "missing"}
    shown: dict[str, Any] = {"status": standing.status}
    if "steps" in standing.summary:
        shown["steps"] = standing.summary["steps"]
    scores = [f"{s['metric']} {s['value']:.4g}" for s in standing.summary.get("scores", ())]
    if scores:
        shown["score"] = ", ".join(scores)
    return shown


def _check(installed: Plugins) -> dict[str, str]:
    """What cannot be loaded, by plugin: every config, and every factory whose extra is there."""
    problems: dict[str, str] = {
        p.name: p.error or p.status for p in installed.plugins if p.status == "broken"
    }
    composer = Composer(installed)
    for kind in installed.kinds():
        for type_name, found in installed.of_kind(kind).items():
            try:
                composer.config_class(kind, type_name)
                _load_factory(found)
            except (EngineError, ImportError) as error:
                problems.setdefault(found.plugin.name, str(error))
    return problems


def _load_factory(found: Found) -> None:
    if not found.missing_requirements() and not callable(found.load_factory()):
        raise SpecError(f"{found.component.factory} is not callable")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201 - a command's output
