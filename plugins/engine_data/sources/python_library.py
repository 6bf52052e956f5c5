"""Source ``python-library``: Python's standard library, or installed packages, as text that is there
without a download.

Modules are not imported; docstrings are read from syntax trees.
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator, Sequence

from engine import Context, DataSource, Record, Text
from engine_data.config import PythonLibrary
from engine_data.sources.installed_packages import (
    normalized,
    package_license,
    package_modules,
    package_version,
)
from engine_data.sources.standard_library import (
    LICENSE,
    Function,
    definitions,
    module_name,
    modules,
    parsed,
    root,
)

_PARTS = ("sources", "docstrings", "topics")


class PythonLibrarySource(DataSource):
    """A part of all sources, one of docstrings, and one of topics, each sorted by module name; of
    packages, one of sources and one of docstrings each, e.g. ``sources/sympy``."""

    def __init__(self, config: PythonLibrary) -> None:
        self._config = config

    def parts(self) -> Sequence[str]:
        """See :class:`engine.DataSource`."""
        parts = [part for part in _PARTS if part in self._config.parts]
        if not self._config.packages:
            return parts
        read = [part for part in parts if part != "topics"]
        names = map(normalized, self._config.packages)
        return [f"{part}/{name}" for name in names for part in read]

    def version(self, part: str) -> str:
        """See :class:`engine.DataSource`: a package's and Python's; or Python's, and where it is."""
        _, _, package = part.partition("/")
        if package:
            return f"{package} {package_version(package)}, Python {sys.version}"
        return f"{sys.version} {root()}"

    def records(self, part: str) -> Iterator[Record]:
        """See :class:`engine.DataSource`."""
        kind, _, package = part.partition("/")
        if kind == "topics":
            from pydoc_data.topics import topics

            for name, text in sorted(topics.items()):
                yield _record(f"topics/{name}", text, f"topics/{name}", LICENSE)
            return
        tests = self._config.tests
        read = package_modules(package, tests=tests) if package else modules(root(), tests=tests)
        terms = package_license(package) if package else LICENSE
        for name, source in read:
            found = source if kind == "sources" else _docstrings(name, source)
            if found is not None:
                yield _record(f"{kind}/{name}", found, name, terms)


def build(config: PythonLibrary, context: Context) -> PythonLibrarySource:
    """Builds the source."""
    return PythonLibrarySource(config)


def _record(name: str, text: str, group: str, terms: str | None) -> Text:
    """A text record; ``group`` holds out a module's source and docstrings together."""
    meta = {"group": group}
    return Text(id=name, source="python-library", license=terms, text=text, meta=meta)


def _docstrings(path: str, text: str) -> str | None:
    """A module's docstrings, each below the name that it documents."""
    tree = parsed(text)
    if tree is None:
        return None
    entries = []
    for name, node in definitions(tree, module_name(path)):
        doc = ast.get_docstring(node, clean=False)
        if doc and doc.strip():
            called = f"({ast.unparse(node.args)})" if isinstance(node, Function) else ""
            entries.append(f"{name}{called}\n\n{inspect.cleandoc(doc)}")
    return "\n\n".join(entries) + "\n" if entries else None
