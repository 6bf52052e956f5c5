"""Folders that are whole or not there: a manifest, written last, lists every file's checksum."""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from engine.errors import RunError

FORMAT = 1
NAME = "manifest.json"


def complete(folder: Path, **fields: Any) -> None:
    """Completes a folder: from now on :func:`verify` accepts it."""
    manifest = {"format": FORMAT, **fields, "files": checksums(folder)}
    write_durably(folder / NAME, json.dumps(manifest, indent=1))


def checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, its manifest apart, by relative name."""
    files = sorted(p for p in folder.rglob("*") if p.is_file() and p != folder / NAME)
    return {p.relative_to(folder).as_posix(): _sha256(p) for p in files}


def read(folder: Path) -> dict[str, Any] | None:
    """The folder's manifest, or None if it is not whole."""
    try:
        manifest: dict[str, Any] = json.loads((folder / NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return manifest


def verify(folder: Path, part: str = "", *, mend: str | None = None) -> dict[str, Any]:
    """Checks the files against the manifest, or those only whose names begin with ``part``.

    Raises RunError naming the file that differs.
    """
    manifest = read(folder)
    if manifest is None:
        raise RunError(f"{folder}: no readable manifest, so it is not whole")
    mend = mend or f"remove {folder} and run again: it goes on from what was saved before"
    for name, expected in manifest["files"].items():
        if not name.startswith(part):
            continue
        file = folder / name
        if not file.is_file():
            raise RunError(f"{file}: missing", mend=mend)
        if _sha256(file) != expected:
            raise RunError(f"{file}: damaged (its checksum differs)", mend=mend)
    return manifest


def write_durably(path: Path, content: str | bytes) -> None:
    """The whole content, on the disk, or the file as it was."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{threading.get_ident()}")
    with partial.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(partial, path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Makes the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
