"""The tiny run's model and tokenizer, and a language model of both."""

from __future__ import annotations

import pytest
from engine_inference.language_model import SharedPrefixLM
from support.internals import Artifact
from support.language_models import CONTEXT


@pytest.fixture(scope="module")
def artifact(finished_run):
    return Artifact(finished_run / "base" / "final")


@pytest.fixture(scope="module")
def model(artifact):
    return artifact.model()


@pytest.fixture(scope="module")
def tokenizer(artifact):
    return artifact.tokenizer()


@pytest.fixture
def lm(model, tokenizer):
    return SharedPrefixLM(model, tokenizer, context=CONTEXT, batch_tokens=100)
