"""What a plugin declares: light to import, complete, and told in plain words."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from engine import hookspecs
from engine.component import Kind
from engine.compose import Composer
from engine.config import (
    Config,
    DataSourceConfig,
    EvaluatorConfig,
    ModelConfig,
    ObjectiveConfig,
    OptimizerConfig,
    RewardConfig,
    StrategyConfig,
)
from engine.errors import EngineError
from engine.plugins import Found, Plugin, Plugins
from engine.reference import nested, refreshed

_BASES: Mapping[Kind, type[Config]] = {
    "data-source": DataSourceConfig,
    "model": ModelConfig,
    "objective": ObjectiveConfig,
    "optimizer": OptimizerConfig,
    "strategy": StrategyConfig,
    "reward": RewardConfig,
    "evaluator": EvaluatorConfig,
}
_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HEAVY = ("torch", "transformers", "tokenizers", "datasets", "pyarrow")
_LONGEST_SUMMARY = 100


def check_plugin(name: str) -> None:
    """Raises AssertionError with everything that is wrong with an installed plugin's declarations.

    Looked at: that it loads, that importing it and its configurations is light, its hooks,
    summaries, configurations (base class, frozen, no unknown fields, described, defaults that are
    valid), factories and commands.
    """
    problems = list(_problems(name))
    if problems:
        raise AssertionError(f"plugin '{name}':\n" + "\n".join(f"- {p}" for p in problems))


def check_readme(file: Path) -> None:
    """Raises AssertionError where the reference in a Markdown file is not what is declared."""
    text = file.read_text(encoding="utf-8")
    if "<!-- reference: " not in text:
        raise AssertionError(f"{file}: no part is marked as a reference")
    if refreshed(text) != text:
        raise AssertionError(f"{file}: out of date; run: python -m engine.reference {file}")


def _problems(name: str) -> Iterator[str]:
    try:
        installed = Plugins.discover()
        installed.selected([name])
    except EngineError as error:
        yield str(error)
        return
    plugin = next(p for p in installed.plugins if p.name == name)
    composer = Composer(installed)
    yield from _unmarked_hooks(plugin)
    yield from _unhelpful_commands(installed, name)
    modules = [e.module for e in metadata.entry_points(group=hookspecs.ENTRY_POINTS, name=name)]
    for kind, components in plugin.components.items():
        for component in components:
            found = installed.of_kind(kind)[component.type]
            modules.append(component.config.partition(":")[0])
            for problem in _component_problems(kind, found, composer):
                yield f"{kind} '{component.type}': {problem}"
    heavy = _heavy_imports(modules)
    if heavy:
        yield f"importing {', '.join(dict.fromkeys(modules))} imports {heavy}: keep them light"


def _unmarked_hooks(plugin: Plugin) -> Iterator[str]:
    for name, value in vars(plugin.module).items():
        if name.startswith("engine_") and callable(value) and not hasattr(value, "engine_impl"):
            yield f"{name} lacks @hookimpl, so it is never called"


def _unhelpful_commands(installed: Plugins, name: str) -> Iterator[str]:
    group = installed.commands().get(name)
    for command in group.commands.values() if group else ():
        if not command.help:
            yield f"command '{command.name}' has no docstring, which is its help"


def _component_problems(kind: Kind, found: Found, composer: Composer) -> Iterator[str]:
    component = found.component
    if not _KEBAB.fullmatch(component.type):
        yield "the type is not kebab-case"
    if not component.summary.strip() or "\n" in component.summary:
        yield "the summary must be one line"
    if len(component.summary) > _LONGEST_SUMMARY:
        yield f"the summary is longer than {_LONGEST_SUMMARY} characters"
    if component.default and not found.plugin.builtin:
        yield "only a built-in component can be a default"
    if component.extra is not None and component.extra not in _extras(found.plugin.distribution):
        yield f"{found.plugin.distribution} has no extra '{component.extra}'"
    try:
        config = found.load_config()
        composed = composer.config_class(kind, component.type)
        factory = None if found.missing_requirements() else found.load_factory()
    except EngineError as error:
        yield str(error)
        return
    base = _BASES.get(kind, Config)
    if not issubclass(config, base):
        yield f"{config.__name__} is no subclass of engine.{base.__name__}"
    for part in dict.fromkeys((config, *nested(config))):
        yield from _config_problems(part)
    yield from _default_problems(composed)
    if factory is not None:
        try:
            inspect.signature(factory).bind("config", "context")
        except TypeError as error:
            yield f"{component.factory} cannot be called with (config, context): {error}"


def _config_problems(config: type[Any]) -> Iterator[str]:
    name = config.__name__
    if not (config.__doc__ or "").strip():
        yield f"{name} has no docstring"
    if config.model_config.get("extra") != "forbid":
        yield f"{name} accepts unknown fields: extra must stay 'forbid'"
    if not config.model_config.get("frozen"):
        yield f"{name} is not frozen"
    for field, info in config.model_fields.items():
        if not info.description:
            yield f"{name}.{field} has no description"


def _default_problems(composed: type[Config]) -> Iterator[str]:
    """Defaults that a spec could not say: pydantic takes them as they stand."""
    for field, info in composed.model_fields.items():
        if info.is_required() or info.validate_default:
            continue
        default = info.get_default(call_default_factory=True)
        annotation: Any = Annotated[info.annotation, info]
        try:
            said = TypeAdapter(annotation).validate_python(default)
        except ValidationError as error:
            yield f"{field}: its default is not valid: {error.errors()[0]['msg']}"
            continue
        if said != default:
            yield f"{field}: its default is {default!r}, where a spec that says so has {said!r}"


def _extras(distribution: str) -> list[str]:
    return metadata.metadata(distribution).get_all("Provides-Extra") or []


def _heavy_imports(modules: list[str]) -> str:
    """Heavy packages that these modules import, found in a process of their own."""
    code = (
        "import importlib, sys\n"
        f"for name in {sorted(set(modules))!r}: importlib.import_module(name)\n"
        f"print(*(n for n in {_HEAVY!r} if n in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()
