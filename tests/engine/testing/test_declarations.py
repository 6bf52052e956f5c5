"""``check_plugin`` finds what is wrong with a plugin's declarations."""

from __future__ import annotations

import pytest

from engine.registry import Plugins
from engine.testing import check_plugin


def test_the_guides_plugin_is_declared_well(spoil):
    """So each mistake below is what is found."""
    spoil()
    check_plugin("example")


@pytest.mark.parametrize("name", [p.name for p in Plugins.discover().plugins if p.builtin])
def test_the_built_in_plugins_are_declared_well(name):
    """They keep the rules that they set."""
    check_plugin(name)


@pytest.mark.parametrize(
    ("old", "new", "found"),
    [
        (
            "Component, Problem, hookimpl",
            "Component, Problem",
            "is broken: NameError: .*hookimpl",
        ),
        ("def engine_models", "def engine_modles", "is broken: .*: unknown hook 'engine_modles'"),
        ('"calm"', '"length"', "two plugins declare the processor 'length': data .* and example"),
    ],
)
def test_a_plugin_that_cannot_be_loaded_says_why(spoil, old, new, found):
    """And is told apart from one that is not installed."""
    with pytest.raises(AssertionError, match="'example' is not installed"):
        check_plugin("example")
    spoil((old, new))
    with pytest.raises(AssertionError, match=found):
        check_plugin("example")


MISTAKES = [
    (
        "@hookimpl\ndef engine_run_finished",
        "def engine_run_finished",
        "engine_run_finished lacks @hookimpl, so it is never called",
    ),
    (
        '"""Prints the loss of every step of RUN."""',
        "...",
        "command 'losses' has no docstring, which is its help",
    ),
    ('"calm"', '"Calm"', "processor 'Calm': the type is not kebab-case"),
    ('"One token per character."', '""', "tokenizer 'characters': the summary must be one line"),
    (
        "A GPT-2 with two fields.",
        "A GPT-2 with two fields. " * 5,
        "model 'small-gpt': the summary is longer than 100 characters",
    ),
    (
        'layer but the head.",',
        'layer but the head.",\nextra="peft", default=True',
        "adapter 'low-rank': only a built-in component can be a default",
        "adapter 'low-rank': engine-example has no extra 'peft'",
    ),
    (
        "config:Adafactor",
        "config:AdaFactor",
        "optimizer 'adafactor': plugin example (engine-example 1.0): 'adafactor' cannot be loaded "
        "from engine_example.config:AdaFactor",
    ),
    (
        "linear:build",
        "linar:build",
        "schedule 'linear': plugin example (engine-example 1.0): 'linear' cannot be loaded from "
        "engine_example.linar:build",
    ),
    (
        "class Plain(StrategyConfig)",
        "class Plain",
        "strategy 'plain': plugin example (engine-example 1.0): engine_example.config:Plain is not "
        "a Config",
    ),
    (
        "class Brevity(RewardConfig)",
        "class Brevity(Config)",
        "reward 'brevity': Brevity is not a subclass of engine.RewardConfig",
    ),
    (
        "class Addition(EvaluatorConfig)",
        "class Addition(Config)",
        "evaluator 'addition': Addition is not a subclass of engine.EvaluatorConfig",
    ),
    (
        '"""Reads prompts and learns completions."""',
        'model_config = {"extra": "ignore", "frozen": False}',
        "objective 'answers': Answers has no docstring",
        "objective 'answers': Answers accepts unknown fields: extra must stay 'forbid'",
        "objective 'answers': Answers is not frozen",
    ),
    (
        'below: Count = Field(10, description="Numbers are less than this.")',
        'below: Count = "2k"',
        "data-source 'sums': Sums.below has no description",
        "data-source 'sums': below: its default is '2k', but a spec that sets it gets 2000",
    ),
    (
        "free: Count = Field(80",
        "free: Count = Field(0",
        "reward 'brevity': free: its default is not valid: "
        "Input should be greater than or equal to 1",
    ),
    (
        "return GoodEnoughCallback(config)\n",
        "return GoodEnoughCallback(config)\n\n\nbuild = GoodEnoughCallback\n",
        "callback 'good-enough': engine_example.good_enough:build cannot be called with "
        "(config, context): too many positional arguments",
    ),
    (
        "class RunningMeanBase",
        "import transformers\n\n"
        "transformers.AutoConfig.register('running-mean', RunningMeanConfig)\n\n\n"
        "class RunningMeanBase",
        "importing engine_example.running_mean registers running-mean with transformers: leave that to "
        "engine.register_architectures",
    ),
    (
        "from engine import Count, DataSourceConfig",
        "import tokenizers\nfrom engine import Count, DataSourceConfig",
        "importing engine_example.plugin, engine_example.config imports tokenizers: "
        "keep them light",
    ),
]


def test_every_mistake_is_told_at_once(spoil):
    """In a line each, with the component that it concerns; and nothing else is found."""
    spoil(*((old, new) for old, new, *_ in MISTAKES))
    with pytest.raises(AssertionError) as told:
        check_plugin("example")
    first, *problems = str(told.value).split("\n- ")
    assert first == "plugin 'example':"
    expected = sorted(problem for _, _, *found in MISTAKES for problem in found)
    wrong = [(p, e) for p, e in zip(sorted(problems), expected, strict=True) if not p.startswith(e)]
    assert wrong == []


def test_configurations_inside_a_configuration_are_looked_at_too(spoil):
    """A pydantic model of any other kind would accept misspelt fields."""
    spoil(
        (
            "class LowRank(Config):",
            "import pydantic\n\n\nclass Rows(pydantic.BaseModel):\n    n: int\n\n\n"
            "class LowRank(Config):",
        ),
        ('rank: Count = Field(4, description="', 'rank: Rows = Field(Rows(n=1), description="'),
    )
    with pytest.raises(AssertionError) as told:
        check_plugin("example")
    assert str(told.value).split("\n- adapter 'low-rank': ")[1:] == [
        "Rows has no docstring",
        "Rows accepts unknown fields: extra must stay 'forbid'",
        "Rows is not frozen",
        "Rows.n has no description",
    ]
