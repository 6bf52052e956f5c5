"""Writes a new plugin's package, which installs and passes its tests.

Its components are the guide's examples, the rest is in ``templates/plugin``: ``NAME`` in the templates'
file names, and ``$name`` and others in their text, are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from importlib import metadata, resources
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

from engine import Plugins, SpecError
from engine_tools import guide
from engine_tools.example_spec import example_spec

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SUFFIX = ".template"
_TEMPLATES = resources.files("engine_tools") / "templates" / "plugin"
_HOOK = Template("""\
@hookimpl
def $hook():
    return [
        Component(
            "$type",
            "$package.config:$config",
            "$package.$module:build",
            "$summary",
        )
    ]
""")


def write_plugin(
    given: str,
    to: Path,
    kinds: Sequence[str] = ("processor",),
    commands: Collection[str] = (),
) -> Path:
    """Writes the folder ``to/engine-NAME`` atomically, and returns it.

    NAME is the ``given`` one in kebab-case and without the prefix ``engine-``. ``kinds`` are those of
    its components, ``commands`` the names of the command line's own. Raises SpecError for a name that
    is invalid or taken, an unknown kind, and where the folder exists or cannot be written.
    """
    name = given.replace("_", "-").removeprefix("engine-")
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"'{given}' is not a valid plugin name",
            hint="use small letters, digits and hyphens, beginning with a letter: 'my-plugin'",
        )
    types = _types(name, kinds)
    _check_free(name, types, commands)
    folder = to / f"engine-{name}"
    if folder.exists():
        raise SpecError(f"{folder}: exists already", hint="choose another name, or move it away")
    try:
        to.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".partial-", dir=to) as partial:
            whole = Path(partial, folder.name)
            for path, text in _files(name, types):
                file = whole / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text, encoding="utf-8")
            whole.rename(folder)
    except OSError as error:
        raise SpecError(
            f"{folder}: cannot be written: {error.strerror or error}",
            hint="choose a writable folder with --to",
        ) from error
    return folder


def _types(name: str, kinds: Sequence[str]) -> dict[str, str]:
    """The types of the components by kind: the plugin's name, followed by the example's type if there
    are several. Raises SpecError for an unknown kind.
    """
    examples = guide.examples()
    for kind in kinds:
        if kind not in examples:
            raise SpecError(f"--kind: no kind '{kind}'", hint=f"there are: {', '.join(examples)}")
    chosen = [kind for kind in examples if kind in kinds]
    return {k: name if len(chosen) == 1 else f"{name}-{examples[k].type}" for k in chosen}


def _check_free(name: str, types: Mapping[Any, str], commands: Collection[str]) -> None:
    """Raises SpecError where another plugin, component or command has the name."""
    another = "choose another name"
    installed = Plugins.discover()
    for plugin in installed.plugins:
        if plugin.name == name:
            raise SpecError(f"'{name}' is taken by the plugin {plugin}", hint=another)
    if name in commands:
        raise SpecError(
            f"'{name}' is taken by the command `engine {name}`, which would hide the plugin's commands",
            hint=another,
        )
    for kind, type_name in types.items():
        taken = installed.of_kind(kind).get(type_name)
        if taken:
            raise SpecError(f"'{type_name}' is taken by a {kind} of {taken.plugin}", hint=another)


def _files(name: str, types: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """All files of the package: paths and texts."""
    package = f"engine_{name.replace('-', '_')}"
    made = [(guide.examples()[kind], kind.replace("-", "_"), used) for kind, used in types.items()]
    configs = "\n\n".join(example.config_code for example, _, _ in made)
    hooks = [
        _HOOK.substitute(
            hook=example.hook,
            type=used,
            package=package,
            config=example.config,
            module=module,
            summary=example.summary,
        )
        for example, module, used in made
    ]
    rows = [
        f"| {example.kind} | `{used}` | {example.summary} | `src/{package}/{module}.py` |"
        for example, module, used in made
    ]
    words = {
        "name": name,
        "package": package,
        "distribution": f"engine-{name}",
        "engine": metadata.version("training-engine"),
        "kinds": ", ".join(types),
        "rows": "\n".join(rows),
        "hooks": "\n\n".join(hooks).rstrip("\n"),
        "imports": guide.imports(configs),
        "configs": configs.rstrip("\n"),
        "components": "\n".join(f'    ("{kind}", "{used}"),' for kind, used in types.items()),
    }
    for template, path in _templates(_TEMPLATES):
        text = Template(template.read_text(encoding="utf-8")).substitute(words)
        yield path.replace("engine_NAME", package).removesuffix(_SUFFIX), text
    for example, module, _ in made:
        yield f"src/{package}/{module}.py", example.module(package)
    chosen = {example.type: used for example, _, used in made}
    yield "example.yaml", example_spec(name, chosen)


def _templates(folder: Any, path: str = "") -> Iterator[tuple[Any, str]]:
    """Every template below a folder of the package, with its relative path."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{path}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield entry, path + entry.name
