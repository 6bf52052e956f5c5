"""The standard library as text: what every Python has, without a download.

Nothing is imported of it: docstrings are read from the syntax tree.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from engine import Context, Record, Text
from engine_data.config import PythonLibrary

_NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}
_TESTS = {"test", "tests", "idle_test"}
_LICENSE = "PSF-2.0"


class PythonLibrarySource:
    """Modules in the order of their names, all sources first, then docstrings, then topics."""

    def __init__(self, config: PythonLibrary) -> None:
        self._config = config
        self._root = Path(sysconfig.get_path("stdlib"))

    def records(self, part: int, of: int) -> Iterator[Record]:
        """See :class:`engine.DataSource`."""
        return islice(self._all(), part, None, of)

    def _all(self) -> Iterator[Record]:
        if "sources" in self._config.parts:
            for name, text in self._modules():
                yield _record(f"sources/{name}", text, name)
        if "docstrings" in self._config.parts:
            for name, text in self._modules():
                docstrings = _docstrings(name, text)
                if docstrings:
                    yield _record(f"docstrings/{name}", docstrings, name)
        if "topics" in self._config.parts:
            from pydoc_data.topics import topics

            for name, text in sorted(topics.items()):
                yield _record(f"topics/{name}", text, f"topics/{name}")

    def _modules(self) -> Iterator[tuple[str, str]]:
        """(relative path, source) of every module that is valid text."""
        for path in sorted(self._root.rglob("*.py")):
            relative = path.relative_to(self._root)
            folders = set(relative.parts[:-1])
            if folders & _NOT_THE_LIBRARY or (folders & _TESTS and not self._config.tests):
                continue
            try:
                with tokenize.open(path) as file:
                    yield relative.as_posix(), file.read()
            except (SyntaxError, UnicodeDecodeError):  # made so on purpose, to test decoders
                continue


def build(config: PythonLibrary, context: Context) -> PythonLibrarySource:
    """The source."""
    return PythonLibrarySource(config)


def _record(name: str, text: str, group: str) -> Text:
    """``group`` keeps a module's source and docstrings on the same side of the hold-out."""
    meta = {"group": group}
    return Text(id=name, source="python-library", license=_LICENSE, text=text, meta=meta)


def _docstrings(name: str, text: str) -> str | None:
    """A module's docstrings, each under the name of what it documents."""
    try:
        with warnings.catch_warnings(action="ignore"):  # some warn of their own escape sequences
            tree = ast.parse(text)
    except (SyntaxError, ValueError):
        return None
    module = name.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
    entries = list(_documented(tree, module))
    return "\n\n".join(f"{title}\n\n{doc}" for title, doc in entries) + "\n" if entries else None


def _documented(node: ast.AST, name: str) -> Iterator[tuple[str, str]]:
    if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        doc = ast.get_docstring(node, clean=False)
        if doc and doc.strip():
            title = name
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                title = f"{name}({ast.unparse(node.args)})"
            yield title, inspect.cleandoc(doc)
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _documented(child, f"{name}.{child.name}")
