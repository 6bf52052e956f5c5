"""Python modules of installed distributions as text, found by the distributions' own lists of files.

Nothing is imported.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from engine_data.sources.standard_library import TESTS, source_of


def normalized(name: str) -> str:
    """A distribution's name as all its spellings (PEP 503): `Apple_Pie` is `apple-pie`."""
    return re.sub(r"[-_.]+", "-", name).lower()


def package_fault(name: str) -> str | None:
    """What is wrong with a distribution as a source of modules, and the mend; None if nothing."""
    try:
        package = metadata.distribution(name)
    except (metadata.PackageNotFoundError, ValueError):
        return f"'{name}' is not installed; pip install {name}" if name else "has no name"
    if next(_modules(package, tests=True), None) is None:
        return (
            f"'{name}' has no Python sources in its list of files; install it from a wheel, and not "
            "as editable"
        )
    return None


def package_version(name: str) -> str:
    """The installed version."""
    return metadata.version(name)


def package_license(name: str) -> str | None:
    """The licence that the metadata states: an SPDX expression, or the name in a classifier, or a name
    in the field of old; None without any."""
    about = metadata.metadata(name)
    if "License-Expression" in about:
        return about["License-Expression"]
    classifiers = (text.split(" :: ") for text in about.get_all("Classifier") or ())
    named = [parts[-1] for parts in classifiers if parts[0] == "License" and len(parts) > 1]
    if named:
        return " AND ".join(named)
    text = about["License"].strip() if "License" in about else ""
    return text if text and "\n" not in text else None


def package_modules(name: str, *, tests: bool) -> Iterator[tuple[str, str]]:
    """(path, source) of every module that is valid text, sorted by path, e.g. ``scipy/io/idl.py``.

    ``tests``: include those in folders of tests.
    """
    for relative, path in sorted(_modules(metadata.distribution(name), tests=tests)):
        text = source_of(path)
        if text is not None:
            yield relative, text


def _modules(package: metadata.Distribution, *, tests: bool) -> Iterator[tuple[str, Path]]:
    """Relative and real paths of the modules that a distribution has installed and that are there."""
    for file in package.files or ():
        inside = file.suffix == ".py" and ".." not in file.parts and not file.is_absolute()
        if inside and (tests or not TESTS & set(file.parts[:-1])):
            path = Path(str(file.locate()))
            if path.is_file():
                yield file.as_posix(), path
