"""Modules of the standard library, or of any Python, as text and as syntax trees, without importing
them."""

from __future__ import annotations

import ast
import sysconfig
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

LICENSE = "PSF-2.0"
_NOT_THE_LIBRARY = {"site-packages", "dist-packages", "__pycache__"}
TESTS = {"test", "tests", "idle_test"}
"""Names of the folders that have a library's own tests."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def root() -> Path:
    """The folder of the running Python's standard library."""
    return Path(sysconfig.get_path("stdlib"))


def modules(root: Path, *, tests: bool) -> Iterator[tuple[str, str]]:
    """(relative path, source) of every module that is valid text, sorted by path."""
    for path in sorted(root.rglob("*.py")):
        relative = path.relative_to(root)
        folders = set(relative.parts[:-1])
        if folders & _NOT_THE_LIBRARY or (folders & TESTS and not tests):
            continue
        text = source_of(path)
        if text is not None:
            yield relative.as_posix(), text


def source_of(path: Path) -> str | None:
    """A module's text, in the encoding that it names; None for a file that is no valid text, such as
    those that test decoders."""
    try:
        with tokenize.open(path) as file:
            return file.read()
    except (SyntaxError, UnicodeDecodeError):
        return None


def parsed(text: str) -> ast.Module | None:
    """The syntax tree; None for a text that is not Python."""
    try:
        with warnings.catch_warnings(action="ignore"):  # some have invalid escape sequences
            return ast.parse(text)
    except (SyntaxError, ValueError):
        return None


def module_name(path: str) -> str:
    """``os/path.py`` → ``os.path``."""
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def definitions(
    node: ast.AST, name: str
) -> Iterator[tuple[str, ast.Module | ast.ClassDef | Function]]:
    """The node, and all classes and functions inside it, with their dotted names."""
    if isinstance(node, ast.Module | ast.ClassDef | Function):
        yield name, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ClassDef | Function):
            yield from definitions(child, f"{name}.{child.name}")
