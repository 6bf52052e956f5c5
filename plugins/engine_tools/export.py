"""Exports a stage's model with its card, or the card alone."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from engine import RunError, open_stage
from engine_tools.card import model_card

_CARD = "README.md"


def export_model(stage: Path, folder: Path) -> None:
    """Copies a stage's model and writes its card. Raises RunError, SpecError."""
    opened = open_stage(stage)
    artifact = opened.artifact()
    artifact.verify()
    card = model_card(opened)
    partial = folder.with_name(f".partial-{folder.name}")
    try:
        if folder.exists() and any(folder.iterdir()):
            raise RunError(f"{folder}: is not empty", hint="choose a new folder")
        shutil.rmtree(partial, ignore_errors=True)
        partial.parent.mkdir(parents=True, exist_ok=True)
        artifact.copy(partial)
        (partial / _CARD).write_text(card, encoding="utf-8")
        os.replace(partial, folder)
    except OSError as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise RunError(f"{folder}: cannot be written: {error.strerror or error}") from error


def export_card(stage: Path, folder: Path) -> Path:
    """Writes a stage's card alone, and returns its file.

    Raises RunError, SpecError, also where there is a card, which someone may have changed.
    """
    opened = open_stage(stage)
    opened.artifact()
    card, file = model_card(opened), folder / _CARD
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as out:
            out.write(card)
    except FileExistsError as error:
        raise RunError(f"{error.filename}: is there already", hint="move it away") from error
    except OSError as error:
        raise RunError(f"{file}: cannot be written: {error.strerror or error}") from error
    return file
