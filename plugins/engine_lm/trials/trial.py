"""Tries an architecture: every check in turn, and what came of each."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal

from engine import EngineError, shrunk_config
from engine_lm import folders
from engine_lm.architectures import unknown
from engine_lm.trials import checks, runs, two_ranks
from engine_lm.trials.subject import Subject
from engine_lm.trials.tiny_config import tiny_config

OPENS = "opens"
CHECKS: dict[str, Callable[[Subject], str]] = {
    "counts": checks.counts,
    "packed": checks.packed,
    "masters": runs.masters,
    "scores": checks.scores,
    "writes": checks.writes,
    "LoRA": runs.lora,
    "scalar head": checks.scalar_head,
    "compile": runs.compiled,
    "resume": runs.resume,
    "export": runs.export,
    **two_ranks.CHECKS,
}
_NOT_OF_A_NEW_MODEL = ("model_type", "auto_map", "quantization_config", "vocab_size")
_LONGEST = 200


@dataclass(frozen=True, slots=True)
class Cell:
    """What came of one check, and why."""

    check: str
    verdict: Literal["right", "refused", "fault"]
    note: str

    def as_json(self) -> dict[str, str]:
        """For machines."""
        return asdict(self)


def try_model(name: str, wanted: tuple[str, ...] = ()) -> Iterator[Cell]:
    """Tries a ``model_type``, or a small copy of the architecture in a folder.

    ``wanted``: only these checks. A model that the engine refuses to build has one cell.
    """
    with tempfile.TemporaryDirectory() as place:
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
        return name, tiny_config(name)
    from transformers import AutoConfig

    if wrong := folders.fault(folder):
        raise EngineError(wrong)
    small = shrunk_config(AutoConfig.from_pretrained(folder)).to_diff_dict()
    fields = {n: v for n, v in small.items() if n not in _NOT_OF_A_NEW_MODEL and n[0] != "_"}
    return str(small["model_type"]), fields


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
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else f"{line[: _LONGEST - 1]}…"
