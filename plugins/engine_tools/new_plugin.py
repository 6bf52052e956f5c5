"""Writes a new plugin's package from ``templates/plugin``, which installs and passes its tests.

``NAME`` in the templates' file names, and ``$name`` and others in their text, are replaced.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

from engine import Plugins, SpecError

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SUFFIX = ".template"
_TEMPLATES = resources.files("engine_tools") / "templates" / "plugin"


def write_plugin(name: str, to: Path) -> Path:
    """Writes the folder ``to/engine-NAME`` atomically, and returns it.

    Raises SpecError for a name that is not kebab-case or is taken, and where the folder exists or
    cannot be written.
    """
    _check_name(name)
    package = f"engine_{name.replace('-', '_')}"
    words = {
        "name": name,
        "package": package,
        "distribution": f"engine-{name}",
        "engine": metadata.version("training-engine"),
    }
    folder = to / words["distribution"]
    if folder.exists():
        raise SpecError(f"{folder}: exists already", hint="choose another name, or move it away")
    try:
        to.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".partial-", dir=to) as partial:
            whole = Path(partial, folder.name)
            for template, path in _templates(_TEMPLATES):
                file = whole / path.replace("engine_NAME", package).removesuffix(_SUFFIX)
                file.parent.mkdir(parents=True, exist_ok=True)
                text = Template(template.read_text(encoding="utf-8")).substitute(words)
                file.write_text(text, encoding="utf-8")
            whole.rename(folder)
    except OSError as error:
        raise SpecError(
            f"{folder}: cannot be written: {error.strerror or error}",
            hint="choose a writable folder with --to",
        ) from error
    return folder


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"'{name}' is not a valid plugin name",
            hint="use small letters, digits and hyphens, beginning with a letter: 'my-plugin'",
        )
    installed = Plugins.discover()
    for plugin in installed.plugins:
        if plugin.name == name:
            raise SpecError(f"'{name}' is taken by the plugin {plugin}", hint="choose another name")
    taken = installed.of_kind("processor").get(name)
    if taken:
        raise SpecError(
            f"'{name}' is taken by a processor of {taken.plugin}", hint="choose another name"
        )


def _templates(folder: Any, path: str = "") -> Iterator[tuple[Any, str]]:
    """Every template below a folder of the package, with its relative path."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{path}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield entry, path + entry.name
