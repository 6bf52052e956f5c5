"""Discovery of plugins through entry points: loading, listing, blocking, provenance.

Each plugin is loaded separately: a broken one is listed as such and does not stop commands. Nothing
overrides anything: a name clash is an error that names both distributions.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata
from typing import Any

import click
import pluggy

from engine.contracts import hooks as hookspecs
from engine.contracts.component import Architecture, Component, Kind
from engine.contracts.hooks import AMONG, HOOK_OF_KIND
from engine.errors import PluginError, nearest

BUILTIN_DISTRIBUTION = "training-engine"
_GROUP = re.compile(r"engine\.v[0-9]+")


@dataclass(frozen=True, slots=True)
class Plugin:
    """An installed plugin with its ``status``: ``ok``, ``broken`` (with ``error``) or ``blocked``."""

    name: str
    distribution: str
    version: str
    status: str
    error: str | None = None
    module: Any = field(default=None, repr=False, compare=False)
    components: Mapping[Kind, tuple[Component, ...]] = field(default_factory=dict, compare=False)
    architectures: tuple[Architecture, ...] = field(default=(), compare=False)
    commands: Mapping[str, click.Command] = field(default_factory=dict, compare=False)
    permissions: Mapping[str, str] = field(default_factory=dict, compare=False)

    @property
    def builtin(self) -> bool:
        """Whether it belongs to the engine's distribution, and so is always available."""
        return self.distribution == BUILTIN_DISTRIBUTION

    def placed_commands(self) -> Mapping[str, click.Command]:
        """Commands at the top level of ``engine``, by name: the commands and groups of a built-in
        plugin, or one group with the name of any other plugin."""
        if self.builtin or not self.commands:
            return self.commands
        text = f"Commands of the plugin {self.name}."
        return {self.name: click.Group(self.name, dict(self.commands), help=text)}

    def commands_by_words(self) -> Iterator[tuple[str, click.Command]]:
        """Every command and the words after ``engine`` that call it, such as ``rlhf rollouts``."""
        for name, placed in self.placed_commands().items():
            if isinstance(placed, click.Group):
                yield from ((f"{name} {inner}", c) for inner, c in placed.commands.items())
            else:
                yield name, placed

    def load(self, declared: str, path: str, hint: str | None = None) -> Any:
        """Imports what it declares as ``declared`` by an import path. Raises PluginError."""
        module, _, name = path.partition(":")
        try:
            return getattr(importlib.import_module(module), name)
        except Exception as error:  # a plugin's module may raise anything
            raise PluginError(
                f"plugin {self}: '{declared}' cannot be loaded from {path}: "
                f"{type(error).__name__}: {error}{_meant(path, error)}",
                hint=hint or "see `engine plugins --check`",
            ) from error

    def __str__(self) -> str:
        return f"{self.name} ({self.distribution} {self.version})"


@dataclass(frozen=True, slots=True)
class Found:
    """A component and the plugin that declares it."""

    component: Component
    plugin: Plugin

    def load_config(self) -> type[Any]:
        """Imports the configuration class. Raises PluginError."""
        loaded: type[Any] = self._load(self.component.config)
        return loaded

    def load_factory(self) -> Any:
        """Imports the factory, with its heavy dependencies. Raises PluginError."""
        return self._load(self.component.factory)

    def missing_requirements(self) -> list[str]:
        """Distributions of the component's extra that are not installed."""
        if self.component.extra is None:
            return []
        return [n for n in _extra(self.plugin.distribution, self.component.extra) if not _has(n)]

    def _load(self, path: str) -> Any:
        hint = self.install_command() if self.missing_requirements() else None
        return self.plugin.load(self.component.type, path, hint)

    def install_command(self) -> str:
        """Shell command that installs the component's extra."""
        return f"pip install '{self.plugin.distribution}[{self.component.extra}]'"


class Plugins:
    """A set of plugins and their components; built-in plugins come first."""

    def __init__(self, plugins: Iterable[Plugin], unnamed: Collection[Plugin] = ()) -> None:
        self.plugins = tuple(sorted(plugins, key=lambda p: (not p.builtin, p.name)))
        self.unnamed = unnamed
        """Installed plugins that the spec does not name."""
        self._found: dict[Kind, dict[str, Found]] = {
            kind: {} for kind in HOOK_OF_KIND if kind not in AMONG
        }
        self.clashes: dict[str, str] = {}
        """By plugin: message on a component that another plugin declares, too. No run may use both."""
        for plugin in self.plugins:
            for kind, components in plugin.components.items():
                for component in components:
                    self._add(AMONG.get(kind, kind), Found(component, plugin))

    @classmethod
    def discover(cls, blocked: Collection[str] = ()) -> Plugins:
        """All installed plugins; those with ``blocked`` names are not imported. Raises PluginError."""
        entries = _entries()
        owners: dict[str, list[str]] = {}
        for entry in entries:
            owners.setdefault(entry.name, []).append(_distribution(entry)[0])
        unknown = sorted(set(blocked) - set(owners))
        if unknown:
            raise PluginError(
                f"--no-plugin {unknown[0]}: no such plugin", hint=f"installed: {', '.join(owners)}"
            )
        return cls(_load(entry, owners[entry.name], blocked) for entry in entries)

    def selected(self, names: Collection[str]) -> Plugins:
        """The built-in plugins and the named ones. Raises PluginError for one that cannot be used."""
        for name in names:
            wrong = self.problem(name)
            if wrong:
                raise PluginError(f"plugins: {wrong}")
        used = [p for p in self.plugins if p.builtin or p.name in names]
        chosen = Plugins(used, unnamed=[p for p in self.plugins if p not in used])
        if chosen.clashes:
            clash = next(iter(chosen.clashes.values()))
            raise PluginError(clash, hint="leave one of them out of `plugins:`")
        return chosen

    def problem(self, name: str) -> str | None:
        """Why the plugin of this name cannot be used, or None if it can."""
        found = [plugin for plugin in self.plugins if plugin.name == name]
        if not found:
            installed = ", ".join(sorted(p.name for p in self.plugins))
            return f"'{name}' is not installed; pip install it, or name one of: {installed}"
        plugin = next((p for p in found if p.status != "ok"), None)
        if plugin is None:
            return None
        return f"{plugin} is {plugin.status}{f': {plugin.error}' if plugin.error else ''}"

    def of_kind(self, kind: Kind) -> Mapping[str, Found]:
        """The components of a kind, by type; steps of a corpus are among the processors."""
        return self._found[AMONG.get(kind, kind)]

    def kinds(self) -> Iterable[Kind]:
        """All kinds of components."""
        return self._found.keys()

    def declaring(self, config: Any) -> Found | None:
        """The component that a composed configuration belongs to; None if it is none's."""
        for kind in self._found:
            found = self._found[kind].get(getattr(config, "type", ""))
            if found and isinstance(config, found.load_config()):
                return found
        return None

    def default_of(self, kind: Kind) -> Found | None:
        """The built-in component of a kind that is used if a spec names none."""
        return next(
            (f for f in self._found[kind].values() if f.component.default and f.plugin.builtin),
            None,
        )

    def commands(self) -> dict[str, click.Command]:
        """Commands that plugins add at the top level of ``engine``, by name; a built-in plugin's takes
        precedence."""
        placed: dict[str, click.Command] = {}
        for plugin in reversed(self.plugins):
            placed |= plugin.placed_commands()
        return placed

    def permissions(self) -> dict[str, str]:
        """Words that plugins add to ``--allow``, each with what it allows."""
        return {w: does for plugin in self.plugins for w, does in plugin.permissions.items()}

    def hooks(self) -> pluggy.PluginManager:
        """A pluggy manager with these plugins, for observer hooks and commands."""
        manager = hookspecs.new_manager()
        for plugin in self.plugins:
            if plugin.status == "ok":
                manager.register(plugin.module, plugin.name)
        return manager

    def _add(self, kind: Kind, found: Found) -> None:
        other = self._found[kind].setdefault(found.component.type, found)
        if other is found:
            return
        both = f"{other.plugin} and {found.plugin}"
        clash = f"two plugins declare the {kind} '{found.component.type}': {both}"
        self.clashes |= {p.name: clash for p in (other.plugin, found.plugin) if not p.builtin}


def _entries() -> list[metadata.EntryPoint]:
    """The entry points of the plugins; those of another version of the interface only under names that
    have none of this version."""
    found = metadata.entry_points()
    entries = list(found.select(group=hookspecs.ENTRY_POINTS))
    names = {entry.name for entry in entries}
    groups = sorted(group for group in found.groups if _GROUP.fullmatch(group))
    others = {entry.name: entry for group in groups for entry in found.select(group=group)}
    return entries + [entry for name, entry in others.items() if name not in names]


def _other_version(group: str, plugin: Plugin) -> str:
    ours, theirs = (int(one.rpartition("v")[2]) for one in (hookspecs.ENTRY_POINTS, group))
    older = BUILTIN_DISTRIBUTION if ours < theirs else plugin.distribution
    return (
        f"it was written for {group}, and this engine has {hookspecs.ENTRY_POINTS}: "
        f"pip install -U {older}"
    )


def _distribution(entry: metadata.EntryPoint) -> tuple[str, str]:
    if not entry.dist:
        return "?", "?"
    about = entry.dist.metadata  # parsed anew each time that it is asked for
    return about["Name"], about["Version"]


def _load(entry: metadata.EntryPoint, owners: Collection[str], blocked: Collection[str]) -> Plugin:
    plugin = Plugin(entry.name, *_distribution(entry), "ok")
    if entry.name in blocked:
        return replace(plugin, status="blocked")
    if len(owners) > 1 and not plugin.builtin:
        error = f"several plugins have this name, of {' and '.join(owners)}; uninstall one of them"
        return replace(plugin, status="broken", error=error)
    if entry.group != hookspecs.ENTRY_POINTS:
        return replace(plugin, status="broken", error=_other_version(entry.group, plugin))
    try:
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for the command's own output
            module = entry.load()
            manager = hookspecs.manager_of(module, entry.name)
            kinds = {
                k: hookspecs.declared(manager, hook, Component) for k, hook in HOOK_OF_KIND.items()
            }
            architectures = hookspecs.declared(manager, "engine_architectures", Architecture)
            commands = hookspecs.declared_commands(manager)
            permissions = hookspecs.declared_permissions(manager)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a plugin may raise anything, SystemExit included
        message = " ".join(f"{type(error).__name__}: {error}".split())
        return replace(plugin, status="broken", error=message)
    return replace(
        plugin,
        module=module,
        components={kind: components for kind, components in kinds.items() if components},
        architectures=architectures,
        commands=commands,
        permissions=permissions,
    )


def _meant(path: str, error: Exception) -> str:
    """What an import path that does not exist may have meant, as a clause."""
    module, colon, name = path.partition(":")
    if not colon:
        return "; a path is written as 'module:name'"
    if isinstance(error, AttributeError) and error.obj is sys.modules.get(module):
        return nearest(name, vars(error.obj))
    parent, _, own = module.rpartition(".")
    if isinstance(error, ModuleNotFoundError) and error.name == module and parent:
        beside = pkgutil.iter_modules(getattr(sys.modules[parent], "__path__", ()))
        return nearest(own, (found.name for found in beside))
    return ""


@cache
def _extra(distribution: str, extra: str) -> tuple[str, ...]:
    """Names of the distributions that an extra requires."""
    marker = re.compile(rf"""extra\s*==\s*['"]{re.escape(extra)}['"]""")
    required = (r for r in metadata.requires(distribution) or () if marker.search(r))
    return tuple(name[0] for r in required if (name := re.match(r"[A-Za-z0-9._-]+", r)))


@cache
def _has(distribution: str) -> bool:
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True
