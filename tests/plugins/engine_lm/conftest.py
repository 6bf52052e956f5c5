"""A tokenizer, and what a factory is given."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from engine_data.config import Bytes
from engine_data.tokenizers import build_bytes

from engine.artifact import Artifact


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A token for every byte."""
    return build_bytes(Bytes(), None)([])


@pytest.fixture
def context(tokenizer: Any) -> SimpleNamespace:
    """As much of a context as models ask for."""
    return SimpleNamespace(
        tokenizer=lambda: tokenizer,
        device=torch.device("cpu"),
        seed=0,
        precision="fp32",
        artifact=lambda stage: Artifact(Path(stage)),
    )
