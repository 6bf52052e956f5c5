"""Source ``python-library``: Python's standard library as text, available without a download.

Modules are not imported; docstrings are read from syntax trees.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Iterator
from itertools import islice

from engine import Context, Record, Text
from engine_data.config import PythonLibrary
from engine_data.sources.standard_library import (
    LICENSE,
    Function,
    definitions,
    module_name,
    modules,
    parsed,
    root,
)


class PythonLibrarySource:
    """All sources, then docstrings, then topics, each sorted by module name."""

    def __init__(self, config: PythonLibrary) -> None:
        self._config = config

    def records(self, part: int, of: int) -> Iterator[Record]:
        """See :class:`engine.DataSource`."""
        return islice(self._all(), part, None, of)

    def _all(self) -> Iterator[Record]:
        if "sources" in self._config.parts:
            for name, text in modules(root(), tests=self._config.tests):
                yield _record(f"sources/{name}", text, name)
        if "docstrings" in self._config.parts:
            for name, text in modules(root(), tests=self._config.tests):
                docstrings = _docstrings(name, text)
                if docstrings:
                    yield _record(f"docstrings/{name}", docstrings, name)
        if "topics" in self._config.parts:
            from pydoc_data.topics import topics

            for name, text in sorted(topics.items()):
                yield _record(f"topics/{name}", text, f"topics/{name}")


def build(config: PythonLibrary, context: Context) -> PythonLibrarySource:
    """Builds the source."""
    return PythonLibrarySource(config)


def _record(name: str, text: str, group: str) -> Text:
    """A text record; ``group`` holds out a module's source and docstrings together."""
    meta = {"group": group}
    return Text(id=name, source="python-library", license=LICENSE, text=text, meta=meta)


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
