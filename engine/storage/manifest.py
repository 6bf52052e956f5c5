"""Folders that are whole or not there: a manifest, written last, lists every file's checksum."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from engine.errors import RunError

FORMAT = 2  # 1 had no checksum of its own
NAME = "manifest.json"
_SUM = "checksum"
_BESIDE = re.compile(r"(stage\.json|card\.html)|\.(stage\.json|card\.html)\.\d+")
"""How a stage stands and a page that shows it, kept beside what it made, and what a killed write of
them left."""


def complete(folder: Path, **fields: Any) -> None:
    """Completes a folder: from now on :func:`verify` accepts it."""
    manifest = {"format": FORMAT, **fields, "files": checksums(folder)}
    write_durably(folder / NAME, sealed(manifest))


def sealed(fields: Mapping[str, Any]) -> str:
    """JSON that ends with a checksum of its own, which :func:`unsealed` checks."""
    return json.dumps({**fields, _SUM: _sum(fields)}, indent=1)


def unsealed(text: str | bytes) -> dict[str, Any]:
    """The fields of sealed JSON, or of JSON without a checksum. Raises ValueError where it differs."""
    fields = json.loads(text)
    if not isinstance(fields, dict):
        raise ValueError(f"it holds {json.dumps(fields)[:40]} and no fields")
    seal = fields.pop(_SUM, None)
    if seal is not None and seal != _sum(fields):
        raise ValueError("its checksum differs")
    return fields


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, its manifest apart, by relative name."""
    return {name: file_sha256(folder / name) for name in _files(folder)}


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(folder: Path) -> dict[str, Any] | None:
    """The folder's manifest, or None if there is none, so that the folder is not whole.

    Raises RunError where there is one that cannot be read, or is none.
    """
    try:
        manifest = unsealed((folder / NAME).read_bytes())
        _check(manifest)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError, RecursionError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or error
        raise RunError(f"{folder / NAME}: damaged ({why})", hint=_hint(folder)) from error
    return manifest


def is_missing(folder: Path) -> bool:
    """Whether the folder has no manifest, not even a damaged one. Raises RunError."""
    try:
        os.lstat(folder / NAME)
    except FileNotFoundError:
        return True
    except OSError as error:
        raise RunError(
            f"{folder / NAME}: {error.strerror}", hint="mend the folder's rights"
        ) from error
    return False


def verify(folder: Path, part: str = "", *, hint: str | None = None) -> dict[str, Any]:
    """Checks the files against the manifest, or those only whose names begin with ``part``.

    Raises RunError naming the file that differs, is missing, or is not listed.
    """
    hint = hint or _hint(folder)
    manifest = read(folder)
    if manifest is None:
        raise RunError(f"{folder}: no manifest, so it is not whole", hint=hint)
    listed = {name: s for name, s in manifest["files"].items() if name.startswith(part)}
    there = {name for name in _files(folder) if name.startswith(part)}
    for name, expected in listed.items():
        if name not in there:
            raise RunError(f"{folder / name}: missing", hint=hint)
        try:
            differs = file_sha256(folder / name) != expected
        except OSError as error:
            raise RunError(f"{folder / name}: cannot be read ({error.strerror})") from error
        if differs:
            raise RunError(f"{folder / name}: damaged (its checksum differs)", hint=hint)
    for name in sorted(there - listed.keys()):
        raise RunError(
            f"{folder / name}: is not one of the files that the folder was written with",
            hint="move it elsewhere and run again",
        )
    return manifest


def write_durably(path: Path, content: str | bytes) -> None:
    """The whole content, on the disk, or the file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{threading.get_ident()}")
    partial.unlink(missing_ok=True)
    try:
        with partial.open("xb") as file:  # "x" follows no link that was planted under the name
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _files(folder: Path) -> list[str]:
    """The relative names of what is below a folder and is no folder, its manifest apart, sorted.

    Raises RunError for a link: what it leads to is no part of the folder.
    """
    names = []
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            if (Path(place) / name).is_symlink():
                raise RunError(
                    f"{Path(place) / name}: is a link, which is not followed", hint="remove it"
                )
        names += [(Path(place) / name).relative_to(folder).as_posix() for name in files]
    return sorted(n for n in names if n != NAME and not _BESIDE.fullmatch(n))


def _check(manifest: Mapping[str, Any]) -> None:
    """Raises ValueError where this is no manifest."""
    form, files = manifest.get("format"), manifest.get("files")
    if form not in (1, FORMAT):
        raise ValueError(f"its format is {form!r:.40}, and this engine reads up to {FORMAT}")
    if not isinstance(files, dict) or not all(isinstance(s, str) for s in files.values()):
        raise ValueError("it has no `files` with their checksums")


def _sum(fields: Mapping[str, Any]) -> str:
    plain = json.loads(json.dumps(fields))  # as it is read back
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()


def _hint(folder: Path) -> str:
    return f"remove {folder} and run again: it goes on from what was saved before"
