"""Prints the runs in a folder, the installed plugins, and the schema of specs."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from engine.errors import EngineError, PluginError, nearest
from engine.registry import Plugin, Plugins
from engine.spec.composition import Composer, config_schema, json_schema, own_class
from engine.spec.loading import RESOLVED, load_resolved, spec_class
from engine.storage.run_folder import RunFolder
from engine.terminal.console import Terminal
from engine.terminal.output import write_cleaned


def print_runs(runs: Path, as_json: bool) -> None:
    """Prints every run in a folder, with its stages and their status, and plugins that it lacks."""
    found = [file.parent for file in sorted(runs.glob(f"*/{RESOLVED}"))]
    rows = [(folder.name, *_standings(RunFolder(folder))) for folder in found]
    if as_json:
        _print_json([{"run": n, "stages": stages, "needs": needs} for n, stages, needs in rows])
        return
    console = Terminal()
    if not rows:
        console.print(f"no runs in {runs}", markup=False)
        return
    table = Table("run", "stage", "status", "steps", "score", box=None)
    for run, stages, _ in rows:
        for number, (name, standing) in enumerate(stages.items()):
            table.add_row(
                escape(run) if number == 0 else "",
                name,
                escape(standing["status"]),
                str(standing.get("steps", "")),
                escape(standing.get("score", "")),
            )
    console.print(table)
    for run, _, needs in rows:
        for need in needs:
            console.print(f"{run}: {need}", markup=False, soft_wrap=True)


def print_plugins(as_json: bool, check: bool) -> int:
    """Prints every plugin with its components; with ``check``, also what is wrong with those that load,
    and returns 1 if anything is wrong with any."""
    installed = Plugins.discover()
    problems = _wrong_declarations(installed) if check else {}
    rows = [_row(plugin, installed.clashes, problems) for plugin in installed.plugins]
    if as_json:
        _print_json(rows)
    else:
        console = Terminal()
        for row in rows:
            _print_plugin(console, row)
    return 1 if check and any(row["status"] in ("broken", "clash") for row in rows) else 0


def print_schema() -> None:
    """Prints the JSON schema of specs with all plugins that load and do not clash."""
    installed = Plugins.discover()
    problems = {**installed.clashes, **_unloadable(installed)}
    for name, problem in problems.items():
        write_cleaned(f"left out: {name}: {problem}\n", error=True)
    working = (p.name for p in installed.plugins if p.status == "ok")
    names = [name for name in working if name not in problems]
    _print_json(json_schema(spec_class(installed.selected(names))))


def print_plugin_schema(name: str) -> None:
    """Prints the JSON schemas of a plugin's components, by kind and type. Raises PluginError for a
    plugin that is not installed or cannot be used."""
    installed = Plugins.discover()
    plugins = {plugin.name: plugin for plugin in installed.plugins}
    if name not in plugins:
        raise PluginError(
            f"--plugin {name}: '{name}' is not installed{nearest(name, plugins)}",
            hint=f"installed: {', '.join(sorted(plugins))}",
        )
    composer = Composer(installed.selected([name]))
    _print_json(
        {
            kind: {c.type: config_schema(composer.config_class(kind, c.type)) for c in components}
            for kind, components in plugins[name].components.items()
        }
    )


def _row(
    plugin: Plugin, clashes: Mapping[str, str], problems: Mapping[Plugin, str]
) -> dict[str, Any]:
    status, error = plugin.status, plugin.error
    if plugin.name in clashes:
        status, error = "clash", clashes[plugin.name]
    if plugin in problems:
        status, error = "broken", problems[plugin]
    return {
        "name": plugin.name,
        "distribution": plugin.distribution,
        "version": plugin.version,
        "status": status,
        "error": error,
        "components": {kind: [c.type for c in cs] for kind, cs in plugin.components.items()},
        "architectures": [one.model_type for one in plugin.architectures],
    }


def _print_plugin(console: Console, row: Mapping[str, Any]) -> None:
    colour = "green" if row["status"] == "ok" else "red"
    origin = escape(f"{row['distribution']} {row['version']}")
    console.print(f"[bold]{escape(row['name'])}[/]  {origin}  [{colour}]{row['status']}[/]")
    for line in (row["error"] or "").splitlines():
        console.print(f"  {escape(line)}", style="red")
    components = Table.grid(padding=(0, 1))
    for kind, types in row["components"].items():
        components.add_row(f"  {kind:<11}", escape(", ".join(types)))
    if row["architectures"]:
        components.add_row("  architecture", escape(", ".join(row["architectures"])))
    console.print(components)


def _standings(folder: RunFolder) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """A run's stages, and what it lacks of its plugins."""
    try:
        loaded = load_resolved(folder.path / RESOLVED)
    except EngineError as error:
        return {"?": {"status": "damaged", "error": str(error)}}, []
    return {name: _standing(folder, name) for name in loaded.spec.order}, list(loaded.absent)


def _standing(folder: RunFolder, stage: str) -> dict[str, Any]:
    try:
        standing = folder.standing(stage)
    except EngineError as error:
        return {"status": "damaged", "error": str(error)}
    if standing is None:
        return {"status": "missing"}
    shown: dict[str, Any] = {"status": standing.status}
    if standing.status == "begun":
        shown |= _ended(folder)
    if "steps" in standing.summary:
        shown["steps"] = standing.summary["steps"]
    scores = [f"{s['metric']} {_value(s['value'])}" for s in standing.summary.get("scores") or ()]
    if scores:
        shown["score"] = ", ".join(scores)
    return shown


def _value(value: float | None) -> str:
    """A score's value; a record has null for one that is not finite."""
    return "not finite" if value is None else f"{value:.4g}"


def _ended(folder: RunFolder) -> dict[str, str]:
    """How a run with a stage that is begun has ended, by its last event: ``failed``, with the error, or
    ``stopped``. Nothing where it goes on or was killed."""
    try:
        last = folder.last_event()
    except EngineError:
        return {}
    match last:
        case {"event": "failed", "error": str(error)}:
            return {"status": "failed", "error": error}
        case {"event": "interrupted" | "stopped"}:
            return {"status": "stopped"}
        case _:
            return {}


def _wrong_declarations(installed: Plugins) -> dict[Plugin, str]:
    from engine.testing.declarations import declaration_problems

    usable = [p for p in installed.plugins if p.status == "ok" and p.name not in installed.clashes]
    found = declaration_problems(installed, usable)
    return {plugin: "\n".join(problems) for plugin, problems in found.items()}


def _unloadable(installed: Plugins) -> dict[str, str]:
    """Why plugins cannot be in a schema, by name: broken ones, and configurations without one."""
    problems = {p.name: p.error or p.status for p in installed.plugins if p.status == "broken"}
    for kind in installed.kinds():
        for found in installed.of_kind(kind).values():
            try:
                own_class(found).model_json_schema()
            except Exception as error:  # a plugin's classes may raise anything
                problems.setdefault(found.plugin.name, str(error))
    return problems


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201 - a command's output
