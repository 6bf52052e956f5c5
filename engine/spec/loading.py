"""Loads specs and runs every check that needs no tensor.

Nothing here imports torch or transformers.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from engine.contracts.component import Kind
from engine.contracts.config import Config
from engine.contracts.references import every_config, place_of
from engine.contracts.spec import Spec
from engine.errors import (
    FieldError,
    Location,
    PluginError,
    RunError,
    SpecError,
)
from engine.files.reading import outside, read_json, read_regular
from engine.registry import Found, Plugins
from engine.spec import overrides as sources
from engine.spec.compatibility import inconsistencies
from engine.spec.composition import Composer
from engine.spec.messages import Translator
from engine.spec.parsed_stages import parse_stages
from engine.spec.permissions import Permissions
from engine.spec.unfit_texts import PASSWORD, SURROGATE, passwords, surrogates
from engine.spec.yaml_lines import Source, parse

VERSION = 1
RESOLVED = "resolved.yaml"
_DISTRIBUTION = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*) ([A-Za-z0-9.!+-]+)")
"""Name and version of a distribution, as a run's manifest.json has them."""


@dataclass(frozen=True, slots=True)
class LoadedSituation:
    """See :class:`engine.Situation`."""

    spec: Spec
    plugins: Plugins
    processes: int
    local_processes: int
    stages: Sequence[str]

    def configs(self, kind: Kind) -> Mapping[str, type[Config]]:
        """See :class:`engine.Situation`."""
        return Composer(self.plugins).installed(kind)


@dataclass(frozen=True, slots=True)
class Loaded:
    """A valid spec with the plugins it may use, its original text, and the user's permissions.

    ``absent``: of a run's resolved spec, what is wrong with each of its plugins that cannot be used.
    """

    spec: Spec
    plugins: Plugins
    text: str
    source: Source = field(default_factory=lambda: Source(None))
    permissions: Permissions = field(default_factory=Permissions)
    absent: Sequence[str] = ()

    def found(self, kind: Kind, config: Config) -> Found:
        """The component of a configuration. Raises PluginError if its plugin cannot be used."""
        name = getattr(config, "type", "")
        found = self.plugins.of_kind(kind).get(name)
        if found is None:
            raise PluginError(f"the {kind} '{name}' cannot be used: {'; '.join(self.absent)}")
        return found

    def outside(self) -> list[str]:
        """Lines that list what this spec reads on this machine outside its own folder."""
        *extended, own = self.source.files
        configs = every_config((), self.spec)
        named = (name for _, config in configs for name in config.reads())
        return list(outside(own.parent, chain(map(str, extended), named)))

    def situation(
        self, processes: int = 1, local_processes: int = 1, stages: Sequence[str] | None = None
    ) -> LoadedSituation:
        """The run of this spec on a number of processes; ``stages`` defaults to all of them."""
        todo = self.spec.order if stages is None else tuple(stages)
        return LoadedSituation(self.spec, self.plugins, processes, local_processes, todo)

    def resolved(self) -> dict[str, Any]:
        """The spec as plain data, with all defaults."""
        return self.spec.model_dump(mode="json", exclude_none=True)

    def given(self) -> dict[str, Any]:
        """What of :meth:`resolved` the user wrote: in the spec, what it extends, and overrides."""
        return self.spec.model_dump(mode="json", exclude_none=True, exclude_unset=True)

    def told(self, config: Config, error: FieldError) -> SpecError:
        """The error with the file and line of the component's field."""
        at = (*(place_of(config, self.spec) or ()), *error.field.split("."))
        what = error.what.removeprefix(f"{error.field}: ")
        return SpecError(*self.source.told([(at, what)]), hint=error.hint)


def spec_class(plugins: Plugins, *, lenient: bool = False) -> type[Spec]:
    """The spec's pydantic model, composed with the configs of these plugins; see :class:`Composer`."""
    composed: Any = Composer(plugins, lenient=lenient).compose(Spec)
    return composed  # type: ignore[no-any-return]


def load_spec(
    path: Path,
    *,
    overrides: Sequence[str] = (),
    blocked: Sequence[str] = (),
    processes: int = 1,
    allow: Sequence[str] = (),
) -> Loaded:
    """Reads and checks a spec. Raises SpecError with all problems at once, and PluginError.

    ``overrides``: ``path=value`` assignments; ``blocked``: plugins not to import; ``processes``: world
    size to check for; ``allow``: permission words.
    """
    installed = Plugins.discover(blocked)
    permissions = Permissions.given(allow, installed.permissions())
    source = sources.read(path, permissions)
    for assignment in overrides:
        sources.override(source, assignment)
    _refuse_passwords(source)
    problems = list(_version_problems(source))
    names = _named_plugins(source.data)
    unusable = {name: wrong for name in names if (wrong := installed.problem(name))}
    problems += [(("plugins", names.index(name)), wrong) for name, wrong in unusable.items()]
    plugins = installed.selected([name for name in names if name not in unusable])
    model = spec_class(plugins)
    spec = None
    try:
        spec = model.model_validate({**source.data, "engine": VERSION})
    except ValidationError as error:
        problems += Translator(model, plugins, installed).translate(error, all_there=not unusable)
    except UnicodeEncodeError:  # a validator's message repeats what pydantic cannot encode
        problems += [(at, SURROGATE) for at in surrogates(source.data)]
    problems += inconsistencies(
        parse_stages(model, spec, source.data, plugins, processes, permissions, whole=not unusable)
    )
    if problems or spec is None:
        raise SpecError(*source.told(problems))
    return Loaded(spec, plugins, read_regular(path).decode("utf-8"), source, permissions)


def _refuse_passwords(source: Source) -> None:
    """Raises SpecError for passwords that the text spells with escapes. Called before other checks,
    whose messages would repeat them."""
    found = [(at, PASSWORD) for at in passwords(source.data)]
    if found:
        raise SpecError(*source.told(found))


def _named_plugins(data: Mapping[str, Any]) -> list[str]:
    named = data.get("plugins")
    return [n for n in named if isinstance(n, str)] if isinstance(named, list) else []


def _version_problems(source: Source) -> Iterator[tuple[Location, str]]:
    """Problems of the field ``engine``. Raises SpecError if the spec is of another version, since
    further messages would be misleading."""
    version = source.data.get("engine")
    if version is None:
        yield ("engine",), f"missing; add `engine: {VERSION}`, the version of the spec's language"
        return
    if version == VERSION and not isinstance(version, bool):
        return
    if not isinstance(version, int) or isinstance(version, bool):
        yield ("engine",), f"{version!r} is not a version; write `engine: {VERSION}`"
        return
    hint = f"write `engine: {VERSION}`; CHANGELOG.md says under 'Spec' what changed since"
    if version > VERSION:
        hint = "it was written for a newer engine: pip install -U training-engine"
    what = f"this engine reads specs of version {VERSION}, not {version}; {hint}"
    raise SpecError(*source.told([(("engine",), what)]))


def resolved_yaml(loaded: Loaded) -> str:
    """The text of resolved.yaml."""
    return yaml.safe_dump(loaded.resolved(), sort_keys=False, allow_unicode=True)


def load_resolved(file: Path, allow: Sequence[str] = ()) -> Loaded:
    """Loads a run's resolved.yaml, also without some of its plugins. Raises RunError if it cannot be
    read.

    Permissions are not checked here, but when components are built.
    """
    hint = "run its spec again: finished stages are not repeated"
    installed = Plugins.discover()
    permissions = Permissions.given(allow, installed.permissions())
    try:
        text = read_regular(file).decode("utf-8")
        data = parse(text, lambda line: f"line {line}").data
        absent = [name for name in data["plugins"] if installed.problem(name)]
        plugins = installed.selected([name for name in data["plugins"] if name not in absent])
        spec = spec_class(plugins, lenient=bool(absent)).model_validate(data)
    except (SpecError, OSError, ValueError, TypeError, KeyError) as error:
        why = " ".join(str(error).split())
        raise RunError(f"{file}: cannot be read ({why})", hint=hint) from error
    told = tuple(_absence(name, installed, file.parent) for name in absent)
    return Loaded(spec, plugins, text, permissions=permissions, absent=told)


def _absence(name: str, installed: Plugins, run: Path) -> str:
    """Why a plugin of a run cannot be used; if it is not installed, also the version that the run
    had."""
    if any(plugin.name == name for plugin in installed.plugins):
        return f"plugin {installed.problem(name)}"
    try:
        version = _DISTRIBUTION.fullmatch(read_json(run / "manifest.json")["plugins"][name])
    except (OSError, ValueError, LookupError, TypeError):  # somebody has changed it
        version = None
    if version is None:
        return f"plugin {name} is not installed"
    return (
        f"plugin {name} ({version[0]}) is not installed: pip install '{version[1]}=={version[2]}'"
    )
