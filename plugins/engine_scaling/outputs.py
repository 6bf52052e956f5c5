"""Files that commands write beside what they print."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from engine import FittedLaw, SpecError


def check_output(option: str, file: Path, inputs: Iterable[Path]) -> None:
    """Raises SpecError for a file that is read, too."""
    if file.resolve() in {one.resolve() for one in inputs}:
        raise SpecError(f"{option} {file}: is what is read", hint="name another file to write")


def check_law(file: Path, inputs: Iterable[Path]) -> None:
    """Raises SpecError for a file that is read, too, and for one that is there and holds no law."""
    check_output("--law", file, inputs)
    if file.exists():
        try:
            FittedLaw.read(file)
        except SpecError as error:
            raise SpecError(
                f"--law {file}: is there, and is no law, so it is not overwritten",
                hint="name another file to write",
            ) from error
