"""Checks a plugin's declarations: light to import, complete, and described."""

from __future__ import annotations

import inspect
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import TypeAdapter, ValidationError

from engine.contracts import hooks as hookspecs
from engine.contracts.component import Kind
from engine.contracts.config import (
    Config,
)
from engine.errors import EngineError
from engine.registry import Found, Plugin, Plugins
from engine.spec.architectures import register_each
from engine.spec.composition import BASES, Composer, own_class
from engine.testing.reference import nested, refreshed

_KEBAB = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*")
_HEAVY = ("torch", "transformers", "tokenizers", "datasets", "pyarrow")
_LONGEST_SUMMARY = 100


def check_plugin(name: str) -> None:
    """Raises AssertionError with everything that is wrong with an installed plugin's declarations.

    Checks that it loads, that it and its configurations import nothing heavy, and its hooks, summaries,
    configurations (base class, frozen, no unknown fields, descriptions, valid defaults), factories,
    commands, and that transformers takes its architectures but gets none from an import.
    """
    installed = Plugins.discover()
    own = [plugin for plugin in installed.plugins if plugin.name == name]
    found = declaration_problems(installed, own).values() if own else [[installed.problem(name)]]
    if problems := list(chain.from_iterable(found)):
        raise AssertionError(f"plugin '{name}':\n" + "\n".join(f"- {p}" for p in problems))


def declaration_problems(installed: Plugins, plugins: Sequence[Plugin]) -> dict[Plugin, list[str]]:
    """What is wrong with the declarations of plugins; see :func:`check_plugin`.

    Each is checked beside the built-in plugins only, so that none is blamed for another.
    """
    found: dict[Plugin, list[str]] = {}
    modules: dict[Plugin, list[str]] = {}
    built_in = installed.selected([])
    composer = Composer(built_in)
    for plugin in plugins:
        if plugin.builtin and plugin.status == "ok":
            found[plugin] = list(_problems(plugin, built_in, composer))
        else:
            try:
                chosen = installed.selected([plugin.name])
            except EngineError as error:
                found[plugin] = [str(error)]
                continue
            found[plugin] = list(_problems(plugin, chosen, Composer(chosen)))
        modules[plugin] = _light_modules(plugin)
    if _heavy_imports(list(chain.from_iterable(modules.values()))):
        for plugin, own in modules.items():
            if heavy := _heavy_imports(own):
                found[plugin].append(f"importing {', '.join(own)} imports {heavy}: keep them light")
    return {plugin: problems for plugin, problems in found.items() if problems}


def check_readme(file: Path) -> None:
    """Raises AssertionError if the reference in a Markdown file is missing or out of date."""
    text = file.read_text(encoding="utf-8")
    if "<!-- reference: " not in text:
        raise AssertionError(
            f"{file}: no part is marked as a reference, as in `<!-- reference: plugin NAME -->`"
        )
    if refreshed(text) != text:
        raise AssertionError(f"{file}: out of date; run: python -m engine.testing.reference {file}")


def _problems(plugin: Plugin, plugins: Plugins, composer: Composer) -> Iterator[str]:
    yield from _unmarked_hooks(plugin)
    for _, command in plugin.commands_by_words():
        if not command.help:
            yield f"command '{command.name}' has no docstring, which is its help"
    for kind, components in plugin.components.items():
        for component in components:
            found = plugins.of_kind(kind)[component.type]
            try:
                problems = list(_component_problems(kind, found, composer))
            except Exception as error:  # a plugin's classes may raise anything
                problems = [f"{type(error).__name__}: {error}"]
            yield from (f"{kind} '{component.type}': {problem}" for problem in problems)
    yield from _architecture_problems(plugin)


def _light_modules(plugin: Plugin) -> list[str]:
    """The modules of a plugin that every command may import."""
    entries = metadata.entry_points(group=hookspecs.ENTRY_POINTS, name=plugin.name)
    components = chain.from_iterable(plugin.components.values())
    configs = (component.config.partition(":")[0] for component in components)
    return list(dict.fromkeys([*(entry.module for entry in entries), *configs]))


def _unmarked_hooks(plugin: Plugin) -> Iterator[str]:
    for name, value in vars(plugin.module).items():
        if name.startswith("engine_") and callable(value) and not hasattr(value, "engine_impl"):
            yield f"{name} lacks @hookimpl, so it is never called"


def _architecture_problems(plugin: Plugin) -> Iterator[str]:
    wrong = register_each([plugin])
    yield from wrong.values()
    if plugin.architectures and not wrong:
        kinds = [one.model_type for one in plugin.architectures]
        modules = [one.model.partition(":")[0] for one in plugin.architectures]
        known = _after_importing(
            modules,
            "from transformers import CONFIG_MAPPING as known\n"
            f"print(*(kind for kind in {kinds!r} if kind in known))",
        )
        if known:
            yield (
                f"importing {', '.join(modules)} registers {known} with transformers: leave that to "
                "engine.register_architectures"
            )


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
        config = own_class(found)
        config.model_json_schema()
        with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
            composed = composer.config_class(kind, component.type)
        factory = None if found.missing_requirements() else found.load_factory()
    except EngineError as error:
        yield str(error)
        return
    base = BASES.get(kind, Config)
    if not issubclass(config, base):
        yield f"{config.__name__} is not a subclass of engine.{base.__name__}"
    for part in dict.fromkeys((config, *nested(config))):
        yield from _config_problems(part)
    yield from _default_problems(composed)
    if factory is not None and not callable(factory):
        yield f"{component.factory} is not callable"
    elif factory is not None:
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
    """Defaults that a spec could not set: pydantic does not validate them."""
    for field, info in composed.model_fields.items():
        if info.is_required() or info.validate_default:
            continue
        default = info.get_default(call_default_factory=True)
        annotation: Any = Annotated[info.annotation, info]
        try:
            validated = TypeAdapter(annotation).validate_python(default)
        except ValidationError as error:
            yield f"{field}: its default is not valid: {error.errors()[0]['msg']}"
            continue
        if validated != default:
            yield f"{field}: its default is {default!r}, but a spec that sets it gets {validated!r}"


def _extras(distribution: str) -> list[str]:
    return metadata.metadata(distribution).get_all("Provides-Extra") or []


def _heavy_imports(modules: list[str]) -> str:
    """Heavy packages that these modules import."""
    return _after_importing(modules, f"print(*(n for n in {_HEAVY!r} if n in sys.modules))")


def _after_importing(modules: list[str], code: str) -> str:
    """What code prints in a new process that has imported these modules, or its error."""
    imports = f"for name in {sorted(set(modules))!r}: importlib.import_module(name)"
    code = f"import importlib, sys\n{imports}\n{code}"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() if done.returncode == 0 else done.stderr.strip()
