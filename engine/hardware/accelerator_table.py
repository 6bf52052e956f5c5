"""The form of a table of accelerators, in YAML, and its reader."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import yaml

from engine.errors import SpecError, nearest
from engine.files.reading import read_regular

_UNITS = {
    **dict.fromkeys(("bf16", "fp16", "fp32"), 1e12),
    **dict.fromkeys(("memory", "bandwidth", "links", "network"), 1e9),
    **dict.fromkeys(("power", "price"), 1.0),
}
"""What one stands for in a table."""
_NEEDED = ("fp32", "memory", "source", "date")
_MOST = 1 << 20
"""Largest file of a table in bytes."""
_LARGEST = 1e30
"""Figures below this stay finite in all units and sums."""


@dataclass(frozen=True, slots=True)
class Accelerator:
    """Figures of one device.

    ``bf16``, ``fp16`` and ``fp32``: peak FLOP/s of dense matrix products, the first two with float32
    accumulation and None if the device lacks them, the last without TF32, which is torch's default.
    ``memory`` is in bytes; ``bandwidth`` of the memory, ``links`` that a device sends to those of its
    machine, and ``network`` to other machines, in bytes per second; ``power`` in watts; ``price`` in
    USD for an hour. None stands for an unknown figure. ``source`` and ``date`` are those of the peaks.
    """

    name: str
    fp32: float
    memory: float
    source: str
    date: str
    aliases: tuple[str, ...] = ()
    bf16: float | None = None
    fp16: float | None = None
    bandwidth: float | None = None
    links: float | None = None
    network: float | None = None
    power: float | None = None
    price: float | None = None
    price_source: str | None = None
    price_date: str | None = None

    def peak(self, precision: str) -> float:
        """FLOP/s in this precision; float32's if the tensor cores lack it."""
        narrow = {"bf16": self.bf16, "fp16": self.fp16}.get(precision)
        return self.fp32 if narrow is None else narrow


def read_table(file: Path, known: Mapping[str, Accelerator]) -> dict[str, Accelerator]:
    """A file's entries by name, completed from the ``known`` ones of the same names.

    Raises SpecError with every fault of the file and its line.
    """
    try:
        node = yaml.compose(read_regular(file, _MOST).decode("utf-8"), yaml.SafeLoader)
    except OSError as error:
        raise SpecError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        why = getattr(error, "problem", None) or str(error) or "it is nested too deeply"
        raise SpecError(f"{file}{line}: not YAML: {why}") from error
    entries = _Entries(file)
    found = {one.name: one for one in entries.read(node, known)}
    entries.check_aliases({**known, **found})
    if entries.problems:
        raise SpecError(*entries.problems)
    return found


class _Entries:
    """Reads the nodes of a table and collects its ``problems``, each with its line."""

    def __init__(self, file: Path) -> None:
        self.problems: list[str] = []
        self._file = file

    def read(
        self, node: yaml.Node | None, known: Mapping[str, Accelerator]
    ) -> Iterator[Accelerator]:
        """The whole entries of a table."""
        for key, value in self._items(node, "the table"):
            given = dict(self._fields(key.value, value))
            before = known.get(key.value)
            missing = [] if before else [name for name in _NEEDED if name not in given]
            if given.get("price") is not None:
                if before:  # the list of the former price does not tell this one
                    given = {"price_source": str(self._file), "price_date": ""} | given
                else:
                    missing += [n for n in ("price_source", "price_date") if n not in given]
            if missing:
                self._tell(key, f"{key.value}: lacks {', '.join(missing)}")
            elif before:
                yield replace(before, **given)
            else:
                yield Accelerator(key.value, **given)

    def check_aliases(self, table: Mapping[str, Accelerator]) -> None:
        """Finds names that stand for two devices."""
        owner: dict[str, str] = {}
        for one in table.values():
            for name in {one.name, *one.aliases}:
                if owner.setdefault(name, one.name) != one.name:
                    self.problems.append(
                        f"{self._file}: '{name}' stands for '{owner[name]}' and for '{one.name}'"
                    )

    def _fields(self, name: str, node: yaml.Node) -> Iterator[tuple[str, Any]]:
        names = [one.name for one in fields(Accelerator) if one.name != "name"]
        for key, value in self._items(node, name):
            field, at = key.value, f"{name}.{key.value}"
            if field not in names:
                self._tell(key, f"{at}: unknown field{nearest(field, names)}")
            elif field == "aliases":
                yield field, tuple(self._texts(value, at))
            elif field in _UNITS:
                yield field, self._number(value, at) * _UNITS[field]
            else:
                yield field, self._text(value, at)

    def _items(self, node: yaml.Node | None, what: str) -> Iterator[tuple[Any, yaml.Node]]:
        """Keys and values of a mapping, with unique keys that are texts."""
        if not isinstance(node, yaml.MappingNode):
            self._tell(node, f"{what}: write a mapping of names here")
            return
        seen = set()
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode) or not key.value:
                self._tell(key, f"{what}: a name must be text")
            elif key.value in seen:
                self._tell(key, f"{what}: duplicate name '{key.value}'")
            else:
                seen.add(key.value)
                yield key, value

    def _texts(self, node: yaml.Node, at: str) -> Iterator[str]:
        if not isinstance(node, yaml.SequenceNode):
            self._tell(node, f"{at}: write a list of names here")
            return
        yield from (self._text(item, at) for item in node.value)

    def _text(self, node: yaml.Node, at: str) -> str:
        value = node.value if isinstance(node, yaml.ScalarNode) else None
        if not value:
            self._tell(node, f"{at}: write a text here")
        return str(value)

    def _number(self, node: yaml.Node, at: str) -> float:
        text = node.value if isinstance(node, yaml.ScalarNode) else "this"
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 < value < _LARGEST:
            self._tell(node, f"{at}: '{text}' is not a number above 0 and below {_LARGEST:g}")
        return value

    def _tell(self, node: yaml.Node | None, what: str) -> None:
        line = node.start_mark.line + 1 if node else 1
        self.problems.append(f"{self._file}:{line}: {what}")
