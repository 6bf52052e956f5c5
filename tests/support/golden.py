"""Golden files: what must not change for a user, compared to the bit or as far as machines agree."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import runs

FOLDER = Path(__file__).parents[1] / "golden"
VOLATILE = {
    "time",
    "seconds",
    "training_seconds",
    "tokens_per_second",
    "utilisation",
    "episodes_per_second",
    "memory",
}
HASHES = {"fingerprint", "heeds"}
_MEASURED = "are measured to be"
"""In a warning of a slow precision: not every processor has the same."""
TOLERANCE = 2e-3
"""Of processors of several kinds over a dozen fp32 steps; relative, and absolute below 1."""


@dataclass(frozen=True)
class Golden:
    """Compares what was found with a folder of golden files, or writes them."""

    folder: Path = FOLDER
    write: bool = False
    exact: bool = False
    """Whether this machine wrote the files, so that every bit and hash is the same."""

    def check(self, name: str, found: Any, *, values: bool = True) -> None:
        """Compares ``found`` (JSON) with the file ``name``; not ``values``: its shape alone."""
        file = self.folder / f"{name}.json"
        if self.write:
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(json.dumps(found, indent=0) + "\n", encoding="utf-8")
            return
        expected = json.loads(file.read_text(encoding="utf-8"))
        found = json.loads(json.dumps(found))
        differing = list(self._differing(expected, found, values or self.exact, name))
        assert not differing, "\n".join(differing[:20])

    def _differing(self, expected: Any, found: Any, values: bool, at: str) -> Any:
        if isinstance(expected, dict) and isinstance(found, dict):
            if expected.keys() != found.keys():
                yield f"{at}: fields {sorted(expected)}, now {sorted(found)}"
                return
            for key in expected.keys() - VOLATILE - (set() if self.exact else HASHES):
                yield from self._differing(expected[key], found[key], values, f"{at}.{key}")
        elif isinstance(expected, list) and isinstance(found, list):
            if len(expected) != len(found):
                yield f"{at}: {len(expected)} items, now {len(found)}"
            for number, (one, other) in enumerate(zip(expected, found, strict=False)):
                yield from self._differing(one, other, values, f"{at}.{number}")
        elif not values and not at.endswith(".event"):
            if type(expected) is not type(found):
                yield f"{at}: {expected!r}, now {found!r}"
        elif not (expected == found or _places(expected, found) or self._near(expected, found)):
            yield f"{at}: {expected!r}, now {found!r}"

    def _near(self, one: Any, other: Any) -> bool:
        if self.exact or not (isinstance(one, float) and isinstance(other, float)):
            return False
        return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=TOLERANCE)


def _places(one: Any, other: Any) -> bool:
    """Whether both begin with an absolute path, which is another one in each test's folder."""
    return all(isinstance(value, str) and value.startswith("/") for value in (one, other))


def events(folder: Path, start: int = 0) -> list[dict[str, Any]]:
    """Events of a run from the ``start``-th on, as a golden file has them: those of checkpoints, which
    are written in the background, come last, and none says how fast this processor is."""
    found = [e for e in runs.events(folder)[start:] if _MEASURED not in e.get("message", "")]
    return sorted(found, key=lambda event: event["event"] == "checkpoint")


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of golden files: this machine's own are equal to the bit."""
    group = parser.getgroup("golden files")
    group.addoption("--golden", type=Path, metavar="FOLDER", help="compare to the bit with FOLDER")
    group.addoption("--write-golden", type=Path, metavar="FOLDER", help="write to FOLDER")


@pytest.fixture(scope="session")
def golden(pytestconfig: pytest.Config) -> Golden:
    """Compares what a test found with a golden file."""
    if written := pytestconfig.getoption("write_golden"):
        return Golden(written.resolve(), write=True)
    own = pytestconfig.getoption("golden")
    return Golden(own.resolve(), exact=True) if own else Golden()
