"""The tiny spec's parts, and what loading says is wrong with it."""

from __future__ import annotations

import pytest


@pytest.fixture
def stages(tiny_spec):
    """Its stages: `corpus` is prepared, `base` trained on it."""
    return tiny_spec["stages"]


@pytest.fixture
def train(stages):
    """The body of the train stage."""
    return stages["base"]["train"]


@pytest.fixture
def problems(told, tiny_spec):
    """What is wrong with the tiny spec as it is now, without the lines."""
    return lambda **options: [p.partition(": ")[2] for p in told(tiny_spec, **options)]
