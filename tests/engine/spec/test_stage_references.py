"""Stages that refer to others are found, ordered and checked, wherever a reference stands."""

from __future__ import annotations

from engine.spec.loading import load_spec


def test_a_stage_that_is_not_there(train, problems):
    """The nearest and all that would do are told."""
    train["data"] = "corpis"
    assert problems() == [
        "stages.base.train.data.stage: no stage 'corpis'; did you mean 'corpus'?; "
        "prepare stages here: corpus"
    ]
    train |= {"data": "corpus", "model": "bas"}
    assert problems() == [
        "stages.base.train.model.stage: no stage 'bas'; did you mean 'base'?; "
        "train stages here: base"
    ]


def test_a_stage_of_another_verb(stages, train, problems):
    """Data comes from prepare stages, models from train stages; held-out data from either."""
    figures = {"models": ["base"], "data": "base", "evaluators": ["perplexity"]}
    evaluate = {"models": ["corpus"], "data": "figures", "evaluators": ["perplexity"]}
    stages |= {"figures": {"evaluate": figures}}
    stages |= {"scores": {"evaluate": evaluate}, "more": {"train": {**train, "data": "scores"}}}
    assert problems() == [
        "stages.scores.evaluate.models.0.stage: 'corpus' is no train stage but prepare",
        "stages.scores.evaluate.data: 'figures' is no prepare or train stage but evaluate",
        "stages.more.train.data.stage: 'scores' is no prepare stage but evaluate",
    ]


def test_stages_that_depend_on_each_other(stages, train, problems):
    """The circle is told as a whole, without the stages that only lead there."""
    stages["chat"] = {"train": {**train, "model": "last"}}
    stages["last"] = {"train": {**train, "model": "more"}}
    stages["more"] = {"train": {**train, "model": "last"}}
    assert problems() == ["stages.last: stages depend on each other: last → more → last"]
    stages["more"] = {"train": {**train, "model": "more"}}
    assert problems() == ["stages.more: stages depend on each other: more → more"]


def test_corpora_of_each_other_with_an_evaluator(stages, train, problems):
    """An evaluator asks for records that are held out, which a circle of stages cannot tell."""
    own = {**train, "data": {"type": "stage", "stage": "more"}, "evaluate": ["perplexity"]}
    stages["more"] = {"train": own}
    assert "stages.more: stages depend on each other: more → more" in problems()


def test_stages_run_in_their_order_but_after_what_they_read(stages, train, tiny_spec, write_spec):
    """A spec may name a stage before it describes it; a chain of any length is no trouble."""
    tiny_spec["stages"] = {
        "scores": {
            "evaluate": {
                "models": ["chat", "base"],
                "data": "corpus",
                "evaluators": ["perplexity"],
            }
        },
        "chat": {"train": {**train, "model": "base"}},
        **stages,
        "other": stages["corpus"],
    }
    spec = load_spec(write_spec(tiny_spec)).spec
    assert spec.order == ("corpus", "base", "chat", "scores", "other")
    assert spec.dependencies("scores") == ["chat", "base", "corpus"]


def test_references_are_checked_beside_other_errors(stages, train, problems):
    """In all parts that are right by themselves, so that nobody mends in rounds."""
    stages["scores"] = {"evaluate": {"models": ["bse"], "evaluators": [{"type": "perplexty"}]}}
    train |= {"data": "corpis", "clipp": 1, "budget": "3", "batch": {"tokens": 8}}
    assert [p.partition(": ")[0] for p in problems()] == [
        "stages.base.train.data.stage",
        "stages.base.train.budget",
        "stages.base.train.clipp",
        "stages.scores.evaluate.models.0.stage",
        "stages.scores.evaluate.evaluators.0",
    ]


NAMING = {
    "engine_naming/__init__.py": "",
    "engine_naming/plugin.py": """
from engine import Component, hookimpl

@hookimpl
def engine_rewards():
    return [Component("naming", "engine_naming.config:Naming", "engine_naming.config:build", "Names.")]

@hookimpl
def engine_schedules():
    return [
        Component("calling", "engine_naming.config:Calling", "engine_naming.config:build", "Calls."),
        Component("lacking", "engine_naming.config:Calling", "engine_naming.config:build", "Lacks.",
                  extra="absent")
    ]
""",
    "engine_naming/config.py": """
from collections.abc import Mapping, Sequence
from typing import Annotated

from pydantic import Field

from engine import Config, Of, RewardConfig, StageRef

Stage = Annotated[str, StageRef("train")]

class Part(Config):
    stage: Stage = Field(description="A stage.")

class Calling(Config):
    stage: Stage | None = Field(None, description="A stage.")

class Naming(RewardConfig):
    several: tuple[Stage, ...] = Field((), description="Stages.")
    pair: tuple[int, Stage] | None = Field(None, description="A number and a stage.")
    listed: list[Stage] | None = Field(None, description="Stages.")
    named: dict[str, Stage] = Field({}, description="Stages by name.")
    mapped: Mapping[str, Sequence[Stage]] = Field({}, description="Stages by name.")
    nested: tuple[tuple[Stage, ...], ...] = Field((), description="Stages in groups.")
    parts: dict[str, Part] = Field({}, description="Parts by name.")
    groups: tuple[tuple[Part, ...], ...] = Field((), description="Parts in groups.")
    others: dict[str, tuple[Annotated[Config, Of("schedule")], ...]] = Field(
        {}, description="Schedules by name."
    )
    texts: dict[str, str] | list[Stage] = Field({}, description="Texts, which name no stage.")

def build(config, context):
    return None
""",
}


def test_stages_are_named_at_any_depth(
    stages, train, problems, install_here, tiny_spec, write_spec, tmp_path
):
    """In tuples, lists and mappings, and in the configurations that these hold: each is a dependency,
    which is looked for and waited for; a component there must have what it needs."""
    install_here(NAMING)
    about = tmp_path / "site" / "engine_naming-1.0.dist-info" / "METADATA"
    needs = 'Provides-Extra: absent\nRequires-Dist: no-such-thing; extra == "absent"\n'
    about.write_text(about.read_text() + needs)
    tiny_spec["plugins"] = ["naming"]
    other = {key: value for key, value in train.items() if key != "evaluate"}
    stages |= {name: {"train": other} for name in "abcdefghi"}
    naming = {
        "type": "naming",
        "several": ["a"],
        "pair": [1, "b"],
        "listed": ["c"],
        "named": {"x": "d"},
        "mapped": {"x": ["e"]},
        "nested": [["f"], []],
        "parts": {"x": {"stage": "g"}},
        "groups": [[{"stage": "h"}]],
        "others": {"x": [{"type": "calling", "stage": "i"}]},
        "texts": {"x": "nothing"},
    }
    objective = {"type": "rloo", "rewards": [naming], "answer_tokens": 4}
    data = {"type": "python-questions"}
    body = {
        **other,
        "model": "base",
        "data": data,
        "batch": {"examples": 8},
        "objective": objective,
    }
    stages["policy"] = {"train": body}
    spec = load_spec(write_spec(tiny_spec)).spec
    assert spec.dependencies("policy") == ["base", *"abcdefghi"]
    assert spec.order[-1] == "policy"
    for name in "abcdefghi":
        del stages[name]
    told = [problem.partition(":")[0] for problem in problems()]
    at = "stages.policy.train.objective.rewards.0"
    wrong = """several.0 pair.1 listed.0 named.x mapped.x.0 nested.0.0 parts.x.stage groups.0.0.stage
    others.x.0.stage"""
    assert told == [f"{at}.{place}" for place in wrong.split()]
    objective["rewards"] = [{"type": "naming", "others": {"x": [{"type": "lacking"}]}}]
    assert problems() == [
        f"{at}.others.x.0: 'lacking' needs no-such-thing: pip install 'engine-naming[absent]'"
    ]


def test_half_of_a_surrogate_pair_is_told_with_its_place(problems, stages):
    """A message that repeats it could not be written."""
    stages["scores"] = {
        "evaluate": {"models": ["\ud800"], "evaluators": ["perplexity"], "baseline": "x"}
    }
    place = "stages.scores.evaluate.models.0"
    assert f"{place}: half of a surrogate pair, which is no character: leave it out" in problems()
