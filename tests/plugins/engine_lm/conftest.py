"""A tokenizer, what a factory is given, and a model in a folder as transformers saves it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from engine_lm.config import Llama
from engine_lm.models import build_llama
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


@pytest.fixture(scope="session")
def whole(tokenizer, tmp_path_factory):
    """A tiny model with its tokenizer, as transformers saves them."""
    folder = tmp_path_factory.mktemp("models") / "whole"
    torch.manual_seed(3)
    context = SimpleNamespace(tokenizer=lambda: tokenizer)
    model = build_llama(Llama(hidden_size=32, layers=1, heads=2, context=64), context)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    """A copy to spoil."""
    return shutil.copytree(whole, tmp_path / "model")
