"""Parameters in groups: what a spec says of decay and rates reaches every optimizer alike."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, strategies as st

from engine import OptimizerConfig
from engine.contracts.component_config import ParameterGroup
from engine.modeling import average_decay, parameter_groups

MATRIX, VECTOR = (2, 3), (3,)
NAMES = ["embed.weight", "layers.0.up.weight", "layers.0.norm.weight", "layers.1.up.bias"]


def _config(*groups: dict) -> OptimizerConfig:
    parsed = tuple(ParameterGroup(**group) for group in groups)
    return OptimizerConfig.model_construct(weight_decay=0.1, groups=parsed)


def _told(config, shapes: dict, *settings) -> dict:
    """By parameter's name: what its group says."""
    named = {name: torch.zeros(shape) for name, shape in shapes.items()}
    names = {id(parameter): name for name, parameter in named.items()}
    return {
        names[id(parameter)]: {key: value for key, value in group.items() if key != "params"}
        for group in parameter_groups(config, named.items(), *settings)
        for parameter in group["params"]
    }


def test_matrices_decay_and_vectors_do_not():
    """Norms and biases have nothing to be pulled to 0 for; experts' biases are stacked."""
    told = _told(_config(), {"up": MATRIX, "norm": VECTOR, "experts.bias": MATRIX})
    assert told == {
        "up": {"lr_scale": 1.0, "weight_decay": 0.1},
        "norm": {"lr_scale": 1.0, "weight_decay": 0.0},
        "experts.bias": {"lr_scale": 1.0, "weight_decay": 0.0},
    }


@pytest.mark.covers(
    "ParameterGroup.match", "ParameterGroup.lr_scale", "ParameterGroup.weight_decay"
)
def test_the_first_group_that_matches_counts():
    """Its decay stands in place of the optimizer's where it says one, for vectors too."""
    config = _config(
        {"match": "*.norm.*", "weight_decay": 0.5}, {"match": "layers.*", "lr_scale": 3}
    )
    told = _told(config, {"layers.0.norm.w": VECTOR, "layers.0.up": MATRIX, "Layers": MATRIX})
    assert told == {
        "layers.0.norm.w": {"lr_scale": 1.0, "weight_decay": 0.5},
        "layers.0.up": {"lr_scale": 3.0, "weight_decay": 0.1},
        "Layers": {"lr_scale": 1.0, "weight_decay": 0.1},
    }


def test_an_optimizers_own_settings_come_first():
    """It may decay nothing, or scale the rate, which a spec's group then multiplies."""
    config = _config({"match": "up", "lr_scale": 2})
    told = _told(
        config,
        {"up": MATRIX, "down": MATRIX},
        lambda name, parameter: {"lr_scale": 0.25, "weight_decay": 0.0, "width": len(name)},
    )
    assert told == {
        "up": {"lr_scale": 0.5, "weight_decay": 0.0, "width": 2},
        "down": {"lr_scale": 0.25, "weight_decay": 0.0, "width": 4},
    }


@given(
    st.lists(st.sampled_from(NAMES), unique=True),
    st.lists(
        st.fixed_dictionaries(
            {"match": st.sampled_from(["*", "layers.*", "*.up.*"])},
            optional={"lr_scale": st.sampled_from([0.5, 1]), "weight_decay": st.just(0.1)},
        ),
        max_size=2,
    ),
)
def test_every_parameter_is_in_one_group_and_no_two_groups_are_alike(names, groups):
    """Whatever the groups: optimizers work a group at a time, so fewer are faster."""
    named = [(name, torch.zeros(2, 2)) for name in names]
    made = parameter_groups(_config(*groups), named)
    assert sorted(id(p) for group in made for p in group["params"]) == sorted(
        id(parameter) for _, parameter in named
    )
    settings = [{**group, "params": None} for group in made]
    assert all(settings.count(one) == 1 for one in settings)


def test_an_average_soon_forgets_what_it_began_with():
    """Of a decay of 0.999, the initial weights keep 83 % after 184 steps; with its warm-up, nothing,
    while later steps are averaged over 1/(1 − decay) of them."""
    kept = math.prod(float(average_decay(0.999, torch.tensor(t))) for t in range(1, 185))
    assert kept < 1e-9 < 0.999**184
    assert float(average_decay(0.999, torch.tensor(10**5))) == pytest.approx(0.999, abs=1e-7)
