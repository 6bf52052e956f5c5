"""Writes a new plugin's package from ``engine/templates/plugin``: it installs and passes its tests.

In the templates' names ``NAME`` stands for the plugin; in their text, ``$name`` and the like.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata, resources
from pathlib import Path
from string import Template
from tempfile import TemporaryDirectory
from typing import Any

from engine.errors import PluginError, SpecError
from engine.hookspecs import ENTRY_POINTS
from engine.plugins import BUILTIN_DISTRIBUTION, Plugins

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")
_SUFFIX = ".template"


def write_plugin(name: str, to: Path) -> Path:
    """The folder ``to/engine-NAME``, whole or not there.

    Raises SpecError for a name that is no kebab-case or taken, and where the folder exists or
    cannot be written.
    """
    _check_name(name)
    package = f"engine_{name.replace('-', '_')}"
    words = {
        "name": name,
        "package": package,
        "distribution": f"engine-{name}",
        "group": ENTRY_POINTS,
        "engine": metadata.version(BUILTIN_DISTRIBUTION),
    }
    folder = to / words["distribution"]
    if folder.exists():
        raise SpecError(f"{folder}: exists already", mend="choose another name, or move it away")
    try:
        to.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(prefix=".partial-", dir=to) as partial:
            whole = Path(partial, folder.name)
            for template, path in _templates(resources.files("engine") / "templates" / "plugin"):
                file = whole / path.replace("engine_NAME", package).removesuffix(_SUFFIX)
                file.parent.mkdir(parents=True, exist_ok=True)
                text = Template(template.read_text(encoding="utf-8")).substitute(words)
                file.write_text(text, encoding="utf-8")
            whole.rename(folder)
    except OSError as error:
        raise SpecError(
            f"{folder}: cannot be written: {error.strerror or error}",
            mend="name a folder that can be with --to",
        ) from error
    return folder


def _check_name(name: str) -> None:
    if not _NAME.fullmatch(name):
        raise SpecError(
            f"'{name}' is no plugin's name",
            mend="use small letters, digits and hyphens, beginning with a letter: 'my-plugin'",
        )
    try:
        installed = Plugins.discover()
    except PluginError:  # two plugins that clash are no obstacle to writing a third
        return
    for plugin in installed.plugins:
        if plugin.name == name:
            raise SpecError(f"'{name}' is taken by the plugin {plugin}", mend="choose another name")
    taken = installed.of_kind("processor").get(name)
    if taken:
        raise SpecError(
            f"'{name}' is taken by a processor of {taken.plugin}", mend="choose another name"
        )


def _templates(folder: Any, path: str = "") -> Iterator[tuple[Any, str]]:
    """Every template below a folder of the package, with its relative path."""
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, f"{path}{entry.name}/")
        elif entry.name.endswith(_SUFFIX):
            yield entry, path + entry.name
