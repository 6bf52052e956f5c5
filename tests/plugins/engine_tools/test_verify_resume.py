"""verify-resume proves on the user's own spec what promise 1 says, and finds who breaks it."""

from __future__ import annotations

import os

import pytest

FORGETFUL = {
    "engine_forgetful/__init__.py": "",
    "engine_forgetful/plugin.py": """
from engine import Component, hookimpl

@hookimpl
def engine_optimizers():
    return [Component("forgetful", "engine_forgetful.sgd:Forgetful", "engine_forgetful.sgd:build",
                      "Slows down, and does not write down how far it is.")]
""",
    "engine_forgetful/sgd.py": """
import torch
from engine import OptimizerConfig

class Forgetful(OptimizerConfig):
    pass

class Slowing(torch.optim.SGD):
    taken = 0

    def step(self):
        self.taken += 1
        for group in self.param_groups:
            group["lr"] /= self.taken
        super().step()

def build(config, context):
    return lambda named: Slowing([tensor for _, tensor in named], lr=config.lr)
""",
}


@pytest.mark.parametrize("nproc", [1, pytest.param(2, marks=pytest.mark.soak)])
def test_a_resumed_run_is_identical(tiny_spec, write_spec, engine, nproc, tmp_path):
    """Killed twice, on one process and on two; nothing is left in the user's folders."""
    if nproc > 1:
        tiny_spec["stages"]["base"]["train"]["strategy"] = "ddp"
    arguments = ("--nproc", nproc, "--kills", 2 if nproc == 1 else 1)
    spec = write_spec(tiny_spec)
    told = engine("verify-resume", spec, *arguments, cwd=tmp_path).stdout
    assert "identical: every weight, bit by bit" in told
    assert list(tmp_path.iterdir()) == [spec]


def test_a_component_that_forgets_is_found(tiny_spec, write_spec, engine, install_here, tmp_path):
    """With the weights that came out different."""
    install_here(FORGETFUL)
    tiny_spec["plugins"] = ["forgetful"]
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"optimizer": {"type": "forgetful", "lr": 0.1}, "evaluate": []}
    paths = [str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")]
    env = {"PYTHONPATH": os.pathsep.join(paths)}
    told = engine("verify-resume", write_spec(tiny_spec), "--kills", 1, status=1, env=env).stdout
    assert "different: " in told
    assert "base/model." in told
    assert " more" in told


def test_a_run_that_fails_says_why(tiny_spec, write_spec, engine):
    """In its own words."""
    tiny_spec["stages"]["base"]["train"]["freeze"] = ["*"]
    told = engine("verify-resume", write_spec(tiny_spec), status=1)
    assert "no parameter is left to train" in told.stderr
