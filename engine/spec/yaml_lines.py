"""Parses YAML into plain data with the line of every value, for error messages.

Stricter than YAML where YAML surprises: keys are unique strings, a date stays text, ``1e-3`` is a
number, aliases are copies, and only JSON's types are produced.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import yaml

from engine.errors import Location, SpecError
from engine.spec.unfit_texts import PASSWORD, passwords_in

Mark = Callable[[int], str]
"""Formats a line number for error messages, such as ``spec.yaml:3``."""

_DEEPEST = 60
"""Levels of nesting: far more than a spec needs, far below Python's recursion limit."""
_MOST = 100_000
"""Values in a spec, counting each alias with everything that it repeats."""

_LONGEST = 1024
"""Bits of an integer. Python refuses to print one of more than 4,300 digits."""

_TAG = "tag:yaml.org,2002:"
_TEXT, _MERGE = f"{_TAG}str", f"{_TAG}merge"
_TAGS = {
    yaml.ScalarNode: {f"{_TAG}{name}" for name in ("str", "int", "float", "bool", "null")},
    yaml.SequenceNode: {f"{_TAG}seq"},
    yaml.MappingNode: {f"{_TAG}map"},
}


@dataclass
class Source:
    """Plain data and, in ``marks``, ``file:line`` for every path in it."""

    data: Any
    marks: dict[Location, str] = field(default_factory=dict)
    files: tuple[Path, ...] = ()
    """Files that it was read from; the spec's own is the last."""

    def mark(self, path: Sequence[str | int]) -> str:
        """``file:line`` of the value at ``path``, or else of the nearest value around it."""
        for end in range(len(path), -1, -1):
            found = self.marks.get(tuple(path[:end]))
            if found:
                return found
        return "spec"

    def told(self, problems: Iterable[tuple[Location, str]]) -> list[str]:
        """``file:line: path: message`` for each problem, sorted by line."""
        lines = [(self.mark(at), ".".join(map(str, at)) or "spec", what) for at, what in problems]
        lines.sort(key=lambda line: _place(line[0]))
        return [": ".join(line) for line in lines]

    def replaced(self, path: Location, mark: str) -> None:
        """Records that the value at ``path``, with everything in it, now comes from ``mark``."""
        depth = len(path)
        self.marks = {k: v for k, v in self.marks.items() if k[:depth] != path}
        self.marks[path] = mark


def parse(text: str, mark: Mark) -> Source:
    """Parses a text. Raises SpecError with all problems at once; only with the passwords if there are
    any, since other messages, such as one on an unknown field, would repeat them."""
    secret = [text.count("\n", 0, start) + 1 for start in passwords_in(text)]
    if secret:
        raise SpecError(*(f"{mark(line)}: {PASSWORD}" for line in secret))
    try:
        loader = _Loader(text)
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise SpecError(f"{mark(line)}: not text: character {error.character:#04x}") from None
    try:
        node = loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        at = error.problem_mark or error.context_mark
        raise SpecError(f"{mark(at.line + 1 if at else 1)}: not YAML: {_why(error)}") from None
    except (ValueError, OverflowError) as error:  # escapes of characters that do not exist
        raise SpecError(f"{mark(loader.line + 1)}: not YAML: {error}") from None
    finally:
        loader.dispose()
    if node is None:
        return Source(None, {(): mark(1)})
    reader = _Reader(loader, mark)
    data = reader.value(node, ())
    if reader.problems:
        raise SpecError(*reader.problems)
    return Source(data, reader.source.marks)


def _place(mark: str) -> tuple[str, int]:
    file, _, line = mark.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (mark, 0)


def _why(error: yaml.MarkedYAMLError) -> str:
    why = str(error.problem or error.context)
    if error.context and error.context_mark:
        why += f", {error.context} that begins in line {error.context_mark.line + 1}"
    return f"{why}; indent with spaces" if "'\\t'" in why else why


class _Loader(yaml.SafeLoader):
    """Composes nodes, and collects problems that YAML itself accepts."""

    yaml_implicit_resolvers: ClassVar = {  # type: ignore[misc]
        first: [(tag, r) for tag, r in found if not tag.endswith((":timestamp", ":value"))]
        for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.problems: list[tuple[int, str]] = []
        self._open: list[str | None] = []

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event: Any = self.peek_event()  # type: ignore[no-untyped-call]
        if isinstance(event, yaml.AliasEvent) and event.anchor in self._open:
            raise _problem(f"the alias '*{event.anchor}' contains itself", event)
        if len(self._open) > _DEEPEST:
            raise _problem(f"nested deeper than {_DEEPEST} levels", event)
        self._open.append(getattr(event, "anchor", None))
        node = super().compose_node(parent, index)
        self._open.pop()
        return node

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if not isinstance(key, yaml.ScalarNode):
                self.problems.append((line, "a key must be text, not a list or a mapping"))
            elif key.tag not in (_TEXT, _MERGE):
                self.problems.append((line, f"a key must be text; write '{key.value}' in quotes"))
            elif key.value in seen:
                self.problems.append((line, f"duplicate key '{key.value}'"))
            else:
                seen.add(key.value)
        return node


def _problem(what: str, event: Any) -> yaml.composer.ComposerError:
    return yaml.composer.ComposerError(None, None, what, event.start_mark)


_Loader.add_implicit_resolver(
    f"{_TAG}float",
    re.compile(r"[-+]?([0-9][0-9_]*\.?[0-9_]*|\.[0-9]+)[eE][-+]?[0-9]+$"),
    list("-+.0123456789"),
)


class _Reader:
    """Turns nodes into data, each alias into a copy, and records every value's line."""

    def __init__(self, loader: _Loader, mark: Mark) -> None:
        self.source = Source(None)
        self.problems = [f"{mark(line)}: {problem}" for line, problem in sorted(loader.problems)]
        self._loader = loader
        self._mark = mark
        self._count = 0

    def value(self, node: yaml.Node, at: Location) -> Any:
        """Data of the node at path ``at``."""
        line = self._counted(node)
        self.source.marks.setdefault(at, line)
        if node.tag not in _TAGS[type(node)]:
            self.problems.append(f"{line}: the tag '{node.tag}' is not supported")
            return None
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*at, index)) for index, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, at, set())
        what = node.tag.removeprefix(_TAG)
        try:
            value = self._loader.construct_object(node)
            if isinstance(value, int) and value.bit_length() > _LONGEST:
                raise ValueError("it is too large")
        except (ValueError, LookupError, OverflowError) as error:  # IndexError for an empty text
            why = f": {error}" if isinstance(error, ValueError) else ""
            self.problems.append(f"{line}: {node.value[:40]!r} is not a valid {what}{why}")
            return None
        return value

    def _counted(self, node: yaml.Node) -> str:
        """Counts the node and returns its line. Raises SpecError for too many nodes."""
        line = self._mark(node.start_mark.line + 1)
        self._count += 1
        if self._count > _MOST:
            raise SpecError(f"{line}: more than {_MOST:,} values; do aliases repeat one another?")
        return line

    def _mapping(self, node: yaml.MappingNode, at: Location, taken: set[str]) -> dict[str, Any]:
        """Data of a mapping, whose keys are added to ``taken``. Keys already taken by the mapping that
        this one is merged into keep their place in the order, but their values are not read."""
        own: dict[str, Any] = {}
        for key, value in node.value:
            if key.tag == _MERGE or not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in taken:
                self._counted(key)
                own[key.value] = None
                continue
            here = (*at, key.value)
            self.source.marks[here] = self._mark(key.start_mark.line + 1)
            own[key.value] = self.value(value, here)
        taken.update(own)
        merged: list[dict[str, Any]] = []
        for part in _merged(node):
            line = self._counted(part)
            if isinstance(part, yaml.MappingNode) and part.tag in _TAGS[yaml.MappingNode]:
                merged.append(self._mapping(part, at, taken))
            else:
                self.problems.append(f"{line}: '<<' must be a mapping or a list of mappings")
        data: dict[str, Any] = {}
        for part_data in reversed(merged):  # the first mapping takes precedence
            data |= part_data
        return data | own


def _merged(node: yaml.MappingNode) -> Iterator[yaml.Node]:
    """The mappings that ``<<`` merges into this one."""
    for key, value in node.value:
        if key.tag == _MERGE:
            yield from value.value if isinstance(value, yaml.SequenceNode) else (value,)
