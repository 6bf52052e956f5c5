"""A tokenizer, and what a factory is given."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.internals import Artifact
from support.models import byte_tokenizer


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """A token for every byte."""
    return byte_tokenizer()


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
