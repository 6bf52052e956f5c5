"""The command on tables of scores."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def table(tmp_path: Path) -> Callable[[Sequence[Mapping[str, Any]]], Path]:
    """Writes rows to a CSV file."""

    def write(rows: Sequence[Mapping[str, Any]]) -> Path:
        file = tmp_path / "scores.csv"
        with file.open("w", encoding="utf-8", newline="") as out:
            writer = csv.DictWriter(out, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
        return file

    return write


@pytest.fixture
def tell(command: Callable[..., tuple[str, str]]) -> Callable[..., dict[str, Any]]:
    """What ``engine scaling emergence --json`` says."""

    def run(*arguments: object) -> dict[str, Any]:
        said: dict[str, Any] = json.loads(command("scaling", "emergence", *arguments, "--json")[0])
        return said

    return run
