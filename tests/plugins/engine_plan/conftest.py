"""A train stage of a million parameters, its plan, and a machine without accelerators."""

from __future__ import annotations

import json

import pytest
from support.models import A_MILLION


@pytest.fixture
def on_a_cpu(monkeypatch) -> None:
    """Whatever this machine has."""
    monkeypatch.setattr("engine_plan.machine.accelerator", lambda: None)


@pytest.fixture
def train(tiny_spec):
    """The body of the train stage, of a model of a million parameters."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"model": A_MILLION, "batch": {"tokens": 8192}, "precision": "fp32"}
    return train


@pytest.fixture
def plan(train, command, tiny_spec, write_spec):
    """The plan of the tiny spec as it is now, as data, at a speed that is given."""

    def plan(*options):
        if not {"--speed", "--device"} & set(options):
            options = (*options, "--speed", 1e11)
        out, err = command("plan", write_spec(tiny_spec), *options, "--json")
        assert err == ""
        return json.loads(out)

    return plan
