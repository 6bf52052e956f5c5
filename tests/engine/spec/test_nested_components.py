"""Components contain others of their own kind, and kinds contain each other."""

from __future__ import annotations

import pytest
import yaml

from engine import SpecError
from engine.registry import Plugins
from engine.spec.composition import json_schema
from engine.spec.loading import load_spec, resolved_yaml, spec_class

_AROUND = {
    "engine_around/plugin.py": """
from engine import Component, hookimpl


def one(kind, name):
    return [Component(kind, f"engine_around.config:{name}", "engine_around.parts:build", "Around one.")]


@hookimpl
def engine_optimizers():
    return one("lookahead", "Lookahead")


@hookimpl
def engine_schedules():
    return one("warm-up", "WarmUp")


@hookimpl
def engine_rewards():
    return [*one("sum", "Sum"), *one("trained-by", "TrainedBy")]


@hookimpl
def engine_objectives():
    return one("rewarded", "Rewarded")


@hookimpl
def engine_strategies():
    return one("watched", "Watched")
""",
    "engine_around/config.py": """
from typing import Annotated

from engine import (
    Config, Count, ObjectiveConfig, Of, OptimizerWrapperConfig, RewardConfig, StrategyConfig,
)
from pydantic import Field


class Lookahead(OptimizerWrapperConfig):
    '''Slow weights.'''

    every: Count = Field(5, description="Steps.")


class WarmUp(Config):
    '''A warm-up.'''

    schedule: Annotated[Config, Of("schedule")] = Field(description="After the warm-up.")


class Sum(RewardConfig):
    '''A sum.'''

    rewards: tuple[Annotated[RewardConfig, Of("reward")], ...] = Field(description="Its parts.")


class TrainedBy(RewardConfig):
    '''A reward that depends on an objective.'''

    objective: Annotated[ObjectiveConfig, Of("objective")] = Field(description="An objective.")


class Rewarded(ObjectiveConfig):
    '''An objective that depends on a reward.'''

    reward: Annotated[RewardConfig, Of("reward")] | None = Field(None, description="A reward.")


class Watched(StrategyConfig):
    '''A strategy around another.'''

    strategy: Annotated[StrategyConfig, Of("strategy")] = Field(description="The one inside.")
""",
}


@pytest.fixture
def train(tiny_spec, install_here):
    """The train stage of a spec that may use a plugin of wrappers."""
    install_here(_AROUND)
    tiny_spec["plugins"] = ["around"]
    return tiny_spec["stages"]["base"]["train"]


def _loaded(tiny_spec, tmp_path):
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(tiny_spec, sort_keys=False))
    return load_spec(file)


def test_any_depth_is_checked_and_resolved(train, tiny_spec, tmp_path):
    """The values inside are typed; the resolved spec reads back as the same."""
    inside = {"type": "adamw", "lr": 3e-3, "schedule": {"type": "warm-up", "schedule": "warm-up"}}
    train["optimizer"] = {
        "type": "lookahead",
        "optimizer": {"type": "lookahead", "optimizer": inside},
    }
    train["strategy"] = {"type": "watched", "strategy": {"type": "watched", "strategy": "single"}}
    loaded = _loaded(tiny_spec, tmp_path)
    spec = loaded.spec.stages["base"].train
    assert spec.optimizer.optimizer.optimizer.type_name == "adamw"
    assert spec.optimizer.lr == 3e-3
    assert spec.optimizer.schedule.schedule.schedule.type == "constant"
    assert spec.strategy.strategy.strategy.type_name == "single"
    again = spec_class(loaded.plugins).model_validate(yaml.safe_load(resolved_yaml(loaded)))
    assert again.model_dump() == loaded.spec.model_dump()


def test_a_mistake_inside_is_told_with_its_place(train, tiny_spec, tmp_path):
    """At any depth, also where kinds contain each other."""
    wrong = {"type": "sum", "rewards": [{"type": "sum", "rewerds": []}]}
    inner = {"type": "rewarded", "reward": wrong}
    train["objective"] = {"type": "rewarded", "reward": {"type": "trained-by", "objective": inner}}
    train["optimizer"] = {"type": "lookahead", "lr": 1e-2, "optimizer": "adamw"}
    with pytest.raises(SpecError) as error:
        _loaded(tiny_spec, tmp_path)
    told = str(error.value)
    place = "objective.reward.objective.reward.rewards.0"
    assert f"{place}.rewerds: unknown field; did you mean 'rewards'?" in told
    assert f"{place}.rewards: missing" in told
    assert "optimizer: lr: set it inside `optimizer`, whose lr counts" in told


def test_such_a_plugin_takes_no_other_from_the_schema(train):
    """A component that contains itself is a reference in the schema, and all others stay."""
    plugins = Plugins.discover()
    schema = json_schema(spec_class(plugins.selected(["around"])))
    alone = json_schema(spec_class(plugins.selected(())))
    assert set(alone["$defs"]) < set(schema["$defs"])
    inner = schema["$defs"]["Lookahead"]["properties"]["optimizer"]["anyOf"][0]
    assert inner["discriminator"]["mapping"]["lookahead"] == "#/$defs/Lookahead"
