"""What is there: runs, plugins, and a model to take along."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.compose import Composer, json_schema
from engine.console import Terminal
from engine.errors import EngineError, PluginError, RunError
from engine.folder import RunFolder
from engine.plugins import Found, Plugin, Plugins
from engine.spec import RESOLVED, load_resolved, spec_class
from engine.terminal import write


def print_runs(runs: Path, as_json: bool) -> None:
    """Every run in a folder, its stages, and how they stand."""
    found = [file.parent for file in sorted(runs.glob(f"*/{RESOLVED}"))]
    rows = [(folder.name, _standings(RunFolder(folder))) for folder in found]
    if as_json:
        _print_json([{"run": name, "stages": stages} for name, stages in rows])
        return
    console = Terminal()
    if not rows:
        console.print(f"no runs in {runs}", markup=False)
        return
    table = Table("run", "stage", "status", "steps", "score", box=None)
    for run, stages in rows:
        for number, (name, standing) in enumerate(stages.items()):
            table.add_row(
                escape(run) if number == 0 else "",
                name,
                standing["status"],
                str(standing.get("steps", "")),
                escape(standing.get("score", "")),
            )
    console.print(table)


def print_plugins(as_json: bool, check: bool) -> int:
    """Every plugin with its components; with ``check``, status 1 if anything cannot be loaded."""
    installed = Plugins.discover()
    problems = _problems(installed, factories=True) if check else {}
    rows = [_row(plugin, installed.clashes, problems) for plugin in installed.plugins]
    if as_json:
        _print_json(rows)
    else:
        console = Terminal()
        for row in rows:
            _print_plugin(console, row)
    return 1 if check and any(row["status"] in ("broken", "clash") for row in rows) else 0


def print_schema(names: Collection[str]) -> None:
    """The JSON schema of specs with these plugins, or with all that work together."""
    installed = Plugins.discover()
    if not names:
        problems = {**installed.clashes, **_problems(installed, factories=False)}
        for name, problem in problems.items():
            write(f"left out: {name}: {problem}\n", error=True)
        working = (p.name for p in installed.plugins if p.status == "ok")
        names = [name for name in working if name not in problems]
    _print_json(json_schema(spec_class(installed.selected(names))))


def _row(plugin: Plugin, clashes: Mapping[str, str], problems: Mapping[str, str]) -> dict[str, Any]:
    status, error = plugin.status, plugin.error
    if plugin.name in clashes:
        status, error = "clash", clashes[plugin.name]
    if plugin.name in problems:
        status, error = "broken", problems[plugin.name]
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": status,
        "error": error,
        "components": {kind: [c.type for c in cs] for kind, cs in plugin.components.items()},
    }


def _print_plugin(console: Console, row: Mapping[str, Any]) -> None:
    colour = "green" if row["status"] == "ok" else "red"
    name = f"[bold]{escape(row['name'])}[/]  {row['distribution']} {row['version']}"
    console.print(f"{name}  [{colour}]{row['status']}[/]")
    if row["error"]:
        console.print(f"  {escape(row['error'])}", style="red")
    components = Table.grid(padding=(0, 1))
    for kind, types in row["components"].items():
        components.add_row(f"  {kind:<11}", escape(", ".join(types)))
    console.print(components)


def export_model(stage: Path, folder: Path) -> None:
    """Copies a stage's model and writes its card. Raises RunError, SpecError."""
    from engine import manifest
    from engine.opened import OpenedStage

    opened = OpenedStage.open(stage)
    artifact = opened.artifact()
    manifest.verify(artifact.folder)
    card = _model_card(opened)
    partial = folder.with_name(f".partial-{folder.name}")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder}: is not empty", mend="choose a new folder")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(artifact.folder, partial, ignore=shutil.ignore_patterns(manifest.NAME))
        (partial / "README.md").write_text(card, encoding="utf-8")
        os.replace(partial, folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RunError(f"{folder}: cannot be written: {error.strerror or error}") from error


def _model_card(opened: Any) -> str:
    """Where the model comes from: data and licences, training, scores."""
    run, name = opened.run, opened.name
    summary = opened.summary(name)
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
    card = opened.summary(data) if data else {"sources": []}
    lines += ["", "## Data", "", "| source | documents | bytes | licences |", "|---|---|---|---|"]
    for source in card["sources"]:
        licences = ", ".join(source["licenses"])
        lines.append(
            f"| {source['source']} | {source['documents']:,} | {source['bytes']:,} | {licences} |"
        )
    resolved = (run.folder.path / RESOLVED).read_text(encoding="utf-8")
    lines += ["", "## Spec", "", "```yaml", resolved.rstrip(), "```", ""]
    return "\n".join(lines)


def _standings(folder: RunFolder) -> dict[str, dict[str, Any]]:
    try:
        stages = load_resolved(folder.path / RESOLVED).spec.order
    except EngineError as error:
        return {"?": {"status": "damaged", "error": str(error)}}
    return {name: _standing(folder, name) for name in stages}


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


def _problems(installed: Plugins, *, factories: bool) -> dict[str, str]:
    """What cannot be loaded, by plugin: configs, and factories whose extra is there."""
    problems = {p.name: p.error or p.status for p in installed.plugins if p.status == "broken"}
    composer = Composer(installed)
    for kind in installed.kinds():
        for type_name, found in installed.of_kind(kind).items():
            try:
                composer.config_class(kind, type_name)
                if factories and not found.missing_requirements():
                    _check_factory(found)
            except Exception as error:  # whatever a stranger's classes do is only their own fault
                problems.setdefault(found.plugin.name, str(error))
    return problems


def _check_factory(found: Found) -> None:
    if not callable(found.load_factory()):
        raise PluginError(f"plugin {found.plugin}: {found.component.factory} is not callable")


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201 - a command's output
