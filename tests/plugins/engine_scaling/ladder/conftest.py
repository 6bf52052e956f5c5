"""A ladder of tiny models that is climbed once."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from engine_scaling.ladder.climb import climb, held_out_of
from engine_scaling.ladder.sweep import Asked
from engine_scaling.runner import Event
from support.sweeps import launched

SMALLEST = 3e8
"""FLOPs of the smallest budget."""


@dataclass
class Climb:
    """A sweep's folder, and what is done in it; ``ran``: the specs that were run, in order; after
    ``stop_at`` of them it is interrupted; ``fails``: one that ends with an error."""

    spec: Path
    folder: Path
    ran: list[str] = field(default_factory=list)
    stop_at: int | None = None
    fails: str | None = None

    def again(self, held_out: str = "4", **changes: Any) -> dict[str, Any]:
        """Climbs, and returns the results."""
        asked = Asked(60.0, held_out_of(held_out), SMALLEST, 2, 3, least_steps=4)
        asked = Asked(**{name: getattr(asked, name) for name in Asked.__slots__} | changes)
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            climb(self.spec, self.folder, asked, as_json=True, launch=self._launch)
        return json.loads(out.getvalue())

    def _launch(self, arguments: Sequence[str], tell: Callable[[Event], None]) -> tuple[int, str]:
        if arguments[1].endswith(f"/{self.fails}.yaml"):
            return 1, "error: no luck\n"
        ended = launched(self.ran)(arguments, tell)
        if self.stop_at is not None and len(self.ran) > self.stop_at:
            raise KeyboardInterrupt
        return ended

    def json(self, name: str) -> Any:
        """A file of the folder."""
        return json.loads((self.folder / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def ladder_spec(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Real text and few tokens in the vocabulary: the best size lies among those that are trained."""
    spec = {
        "engine": 1,
        "name": "small",
        "seed": 5,
        "stages": {
            "corpus": {
                "prepare": {
                    "sources": [{"type": "python-library", "parts": ["topics"]}],
                    "tokenizer": {"type": "bytes"},
                    "holdout": 0.05,
                    "executor": {"type": "local", "processes": 0},
                }
            },
            "base": {
                "train": {
                    "data": "corpus",
                    "model": {
                        "type": "llama",
                        "hidden_size": 8,
                        "layers": 1,
                        "heads": 4,
                        "context": 32,
                    },
                    "objective": {"type": "next-token"},
                    "optimizer": {"type": "adamw", "lr": 0.04},
                    "batch": {"tokens": 1024},
                    "budget": "6 steps",
                    "evaluate": [{"type": "perplexity", "limit": 10}],
                }
            },
        },
    }
    file = tmp_path_factory.mktemp("ladder") / "small.yaml"
    file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return file


@pytest.fixture
def new_climb(ladder_spec: Path, tmp_path: Path) -> Callable[[], Climb]:
    """A sweep in a new folder."""
    return lambda: Climb(ladder_spec, tmp_path / "sweep")


@pytest.fixture(scope="session")
def climbed(
    ladder_spec: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Climb, dict[str, Any]]:
    """A finished sweep, with its results. Change nothing in it."""
    made = Climb(ladder_spec, tmp_path_factory.mktemp("climbed") / "sweep")
    return made, made.again()
