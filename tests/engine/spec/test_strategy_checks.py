"""A strategy's own checks of processes and models are made as a spec is loaded."""

from __future__ import annotations

import pytest


def test_the_number_of_processes_is_checked(problems):
    """`--nproc` is part of what is asked for."""
    assert problems(processes=2) == [
        "stages.base.train.strategy: 'single' runs on 1 process, not 2; use {type: ddp}"
    ]


def test_whether_a_strategy_can_split_the_model_is_checked(
    stages, train, tiny_spec, problems, install_here
):
    """As soon as its size is known, of every stage that trains it; with whole degrees only."""
    install_here({"engine_split/__init__.py": "", "engine_split/plugin.py": _SPLIT})
    tiny_spec["plugins"] = ["split"]
    stages["more"] = {"train": {**train, "model": "base", "strategy": "heads"}}
    assert problems(processes=3) == [
        "stages.base.train.strategy: 'single' runs on 1 process, not 3; use {type: ddp}",
        "stages.more.train.strategy: 2 heads are not for 3 processes",
    ]
    stages["more"]["train"]["strategy"] = {"type": "heads", "most": 2}
    assert problems(processes=3)[1:] == ["stages.more.train.strategy: at most 2 processes"]
    train["model"] = {"type": "causal-lm", "architecture": "gpt2"}
    stages["more"]["train"]["strategy"] = "heads"
    assert len(problems(processes=3)) == 1  # of unknown size


_SPLIT = '''
from engine import Component, Count, StrategyConfig, hookimpl
from pydantic import Field

class Heads(StrategyConfig):
    """Splits heads."""
    most: Count = Field(8, description="Processes.")

    def check_processes(self, processes):
        return None if processes <= self.most else f"at most {self.most} processes"

    def check_model(self, shape, processes):
        assert processes <= self.most
        if shape.heads % processes:
            return f"{shape.heads} heads are not for {processes} processes"

@hookimpl
def engine_strategies():
    return [Component("heads", "engine_split.plugin:Heads", "engine_split.plugin:build", "Heads.")]
'''


@pytest.mark.parametrize("method", ["problems(self)", "model_post_init(self, context)"])
def test_a_plugin_s_own_check_may_fail(train, tiny_spec, problems, install_here, method):
    """In whatever way: it is told at its place, and nothing else is hidden."""
    fails = f"    def {method}:\n        raise OSError('the disk is gone')\n\n"
    plugin = _SPLIT.replace("    def check_processes", f"{fails}    def check_processes")
    install_here({"engine_split/__init__.py": "", "engine_split/plugin.py": plugin})
    tiny_spec["plugins"] = ["split"]
    train |= {"strategy": "heads", "clip": -1}
    clip, strategy = sorted(problems())
    assert clip == "stages.base.train.clip: -1: input should be greater than 0"
    assert strategy == ("stages.base.train.strategy: cannot be checked: OSError: the disk is gone")
