"""The train stage of the tiny spec."""

from __future__ import annotations

import pytest


@pytest.fixture
def train(tiny_spec):
    """The train stage's part of the tiny spec."""
    return tiny_spec["stages"]["base"]["train"]
