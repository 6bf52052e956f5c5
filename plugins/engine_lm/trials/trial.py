"""Tries an architecture: every check in turn, and what came of each."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from engine import EngineError, register_architectures, shrunk_config
from engine_lm import folders
from engine_lm.architectures import unknown, unsuited
from engine_lm.trials import checks, runs, two_ranks
from engine_lm.trials.subject import Subject
from engine_lm.trials.table import Cell, unread
from engine_lm.trials.tiny_config import tiny_config

OPENS = "opens"
CHECKS: dict[str, Callable[[Subject], str]] = {
    "counts": checks.counts,
    "packed": checks.packed,
    "masters": runs.masters,
    "scores": checks.scores,
    "writes": checks.writes,
    "LoRA": runs.lora,
    "scalar": checks.scalar_head,
    "compile": runs.compiled,
    "resume": runs.resume,
    "export": runs.export,
    **two_ranks.CHECKS,
}
_NOT_OF_A_NEW_MODEL = ("model_type", "auto_map", "quantization_config", "vocab_size")
_LONGEST = 200
_PLACE = re.compile(r"^\S+\.yaml(:\d+)?: stages\.base\.")
"""Where the spec of a trial is wrong."""


def try_model(name: str, wanted: tuple[str, ...] = ()) -> Iterator[Cell]:
    """Tries a ``model_type`` of transformers or of a plugin, or a small copy of that in a folder.

    ``wanted``: only these checks. A model that the engine refuses to build has one cell.
    """
    register_architectures()
    with unread(), tempfile.TemporaryDirectory() as place:
        made: list[Subject] = []

        def opens(folder: Path) -> str:
            made.append(Subject.made(*_small(name), folder))
            return "from its config"

        yield _cell(OPENS, lambda: opens(Path(place)))
        for subject in made:
            for check, carry_out in CHECKS.items():
                if not wanted or check in wanted:
                    yield _cell(check, partial(carry_out, subject))


def _small(name: str) -> tuple[str, dict[str, Any]]:
    """The ``model_type`` and a small config. Raises EngineError for what is no model of text."""
    folder = Path(name)
    if not folder.is_dir():
        if wrong := unknown(name):
            raise EngineError(wrong)
        return name, _tiny(name)
    from transformers import AutoConfig

    if wrong := folders.fault(folder):
        raise EngineError(wrong)
    small = shrunk_config(AutoConfig.from_pretrained(folder)).to_diff_dict()
    fields = {n: v for n, v in small.items() if n not in _NOT_OF_A_NEW_MODEL and n[0] != "_"}
    return str(small["model_type"]), fields


def _tiny(name: str) -> dict[str, Any]:
    from transformers import AutoConfig

    try:
        usual = AutoConfig.for_model(name).to_dict()
        config = tiny_config(name)
    except Exception as error:  # a config class may refuse its own defaults
        raise EngineError(f"'{name}' has no config without further fields: {error}") from error
    if wrong := unsuited(usual):
        raise EngineError(f"'{name}' {wrong}")
    return config


def _cell(check: str, carry_out: Callable[[], str]) -> Cell:
    try:
        return Cell(check, "right", carry_out())
    except EngineError as error:
        return Cell(check, "refused", _line(str(error)))
    except AssertionError as error:
        return Cell(check, "fault", _line(str(error)))
    except Exception as error:  # whatever a model's code raises where a user would see a traceback
        return Cell(check, "fault", _line(f"{type(error).__name__}: {error}"))


def _line(text: str) -> str:
    line = _PLACE.sub("", " ".join(text.split()))
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
