"""What components are made of: their plugins' versions and code, and what their factories return."""

from __future__ import annotations

import importlib.util
from collections import defaultdict
from collections.abc import Collection, Mapping
from functools import cache
from hashlib import blake2b
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

from engine.contracts.batch import Penalty
from engine.contracts.callback import Callback
from engine.contracts.component import Kind
from engine.contracts.component_config import ObjectiveConfig
from engine.contracts.config import Config
from engine.contracts.data import CorpusStep, DataSource, Executor, Processor
from engine.contracts.objective import ExternalLoop, Objective
from engine.contracts.references import every_config
from engine.contracts.scoring import Evaluator
from engine.contracts.spec import Spec
from engine.contracts.strategy import Strategy
from engine.data.corpus.former_processor import as_processor
from engine.data.former_source import as_source
from engine.errors import PluginError
from engine.registry import Found, Plugin, Plugins

_STEPS = (Processor, CorpusStep)
_BASES: Mapping[Kind, tuple[type[Any], ...]] = {
    "strategy": (Strategy,),
    "objective": (Objective,),
    "penalty": (Penalty,),
    "evaluator": (Evaluator,),
    "callback": (Callback,),
    "data-source": (DataSource,),
    "processor": _STEPS,
    "corpus-step": _STEPS,
    "executor": (Executor,),
}
"""Base classes that factories must return, for kinds on whose defaults the engine relies."""


@cache
def code_of(package: str) -> str:
    """A hash of the source files of a package, or of a module of its own, which may be edited without
    a new version; of none where they are not files."""
    found = blake2b(digest_size=16)
    spec = importlib.util.find_spec(package)
    files: dict[Path, Path] = {}
    for folder in map(Path, (spec.submodule_search_locations or ()) if spec else ()):
        files |= {file.relative_to(folder): file for file in folder.rglob("*.py")}
    if not files and spec and spec.origin and (alone := Path(spec.origin)).is_file():
        files[Path(alone.name)] = alone
    for name, file in sorted(files.items()):
        found.update(name.as_posix().encode(errors="surrogateescape"))
        found.update(file.read_bytes())
    return found.hexdigest()


def used_plugins(spec: Spec, stage: str, plugins: Plugins) -> dict[str, str]:
    """The plugins whose components a stage uses, by name: distribution and version, and a hash of the
    code where code may change without the version."""
    configs = [config for _, config in every_config((), spec.stages[stage].body)]
    used = [found for config in configs if (found := plugins.declaring(config))]
    packages: dict[str, set[str]] = defaultdict(set)
    owners = sorted({found.plugin for found in used}, key=lambda plugin: plugin.name)
    for plugin in owners:  # all of its packages, as the same code should have the same hash
        for component in chain.from_iterable(plugin.components.values()):
            paths = (component.config, component.factory)
            packages[plugin.distribution] |= {package_of(path) for path in paths}
    return {plugin.name: _version(plugin, packages[plugin.distribution]) for plugin in owners}


def package_of(path: str) -> str:
    """The package that an import path such as ``"engine_lm.llama:build"`` begins with."""
    return path.partition(":")[0].partition(".")[0]


def _version(plugin: Plugin, packages: Collection[str]) -> str:
    version = f"{plugin.distribution} {plugin.version}"
    if plugin.builtin or not _may_change(plugin.distribution):
        return version
    return f"{version} (code {'+'.join(code_of(package)[:12] for package in sorted(packages))})"


def _may_change(distribution: str) -> bool:
    """Whether code may differ under one version: where it is not installed, or not from an index, such
    as an editable installation (PEP 610)."""
    try:
        found = metadata.distribution(distribution)
    except metadata.PackageNotFoundError:
        return True
    return found.read_text("RECORD") is None or found.read_text("direct_url.json") is not None


def of_kind(kind: Kind, config: Config, built: object, found: Found) -> Any:
    """What a factory returned. Raises PluginError for what lacks the base class of its kind."""
    if kind == "data-source":
        built = as_source(built)
    elif kind in ("processor", "corpus-step"):
        built = as_processor(built)
    bases = _BASES.get(kind, (object,))
    if isinstance(config, ObjectiveConfig) and config.external_loop:
        bases = (ExternalLoop,)
    if isinstance(built, bases):
        return built
    cls = type(built).__name__
    names = " or ".join(f"engine.{base.__name__}" for base in bases)
    hint = f"let {cls} subclass {names}"
    if isinstance(built, ExternalLoop):
        hint = f"set `external_loop: ClassVar = True` in {found.component.config}"
    raise PluginError(
        f"plugin {found.plugin}: the {kind} '{found.component.type}' is a {cls}, which is not "
        f"an {names}",
        hint=hint,
    )
