"""What no field can see by itself is checked before anything runs."""

from __future__ import annotations

import json
import re

import pytest

from engine.cli.summary import print_summary
from engine.spec.loading import load_spec
from engine.storage.run_folder import RunFolder


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


LESS = "; raise it, or set batch.sequence to at most as many"


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


def test_parts_that_do_not_fit_together(train, texts, problems):
    """Records that the objective does not take, lengths and budgets that make no sense."""
    train["data"] = {"type": "files", "paths": [f"{texts}/*"], "records": "preference"}
    train["holdout"] = 0.1
    assert problems() == [
        "stages.base.train.objective.type: 'next-token' takes text records, "
        "but the data gives preference"
    ]
    train |= {
        "data": "corpus",
        "holdout": 0,
        "batch": {"tokens": 16, "sequence": 64, "micro_tokens": 48},
    }
    assert problems() == [
        f"stages.base.train.batch.tokens: 16 is less than one row of 64 tokens{LESS}",
        "stages.base.train.batch.sequence: 64 is longer than the model's context of 32",
        f"stages.base.train.batch.micro_tokens: 48 is less than one row of 64 tokens{LESS}",
    ]
    train |= {"batch": {"tokens": 16}, "budget": "10%"}
    assert sorted(problems()) == [
        f"stages.base.train.batch.tokens: 16 is less than one row of 32 tokens{LESS}",
        "stages.base.train.budget: '10%' is no budget; use tokens, steps, epochs or time",
    ]


def test_rows_are_looked_at_before_anything_runs(
    stages, train, problems, tiny_spec, write_spec, tmp_path
):
    """Where they are here already: their schema, and rows of no known shape with their file."""
    rows = {"type": "files", "paths": [str(tmp_path / "*.jsonl")]}
    train |= {"data": rows, "evaluate": []}
    stages["corpus"]["prepare"]["sources"] = [rows]
    load_spec(write_spec(tiny_spec))
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    assert problems() == [
        "stages.corpus.prepare.sources.0: gives completion records, but prepare takes text; give them "
        "to a train stage as its `data`, or say by `records: text` and `columns` where their text is",
        "stages.base.train.objective.type: 'next-token' takes text records, but the data gives "
        "completion",
    ]
    (tmp_path / "a.jsonl").write_text('{"content": "a"}\n')
    told = (
        "a.jsonl:1: its rows are of no known shape: they have content; set "
        "`columns: {text: content}`, or leave the file out"
    )
    wrong = ["stages.corpus.prepare.sources.0", "stages.base.train.data"]
    assert problems() == [f"{where}: {told}" for where in wrong]


def test_an_interval_only_counts_in_training(stages, problems):
    """Elsewhere there is nothing that it could count."""
    perplexity = {"type": "perplexity", "every": "2 steps"}
    stages["scores"] = {
        "evaluate": {"models": ["base"], "data": "corpus", "evaluators": [perplexity]}
    }
    assert problems() == [
        "stages.scores.evaluate.evaluators.0.every: only counts inside a train stage"
    ]


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


def test_a_pretrained_model_s_config_is_read_as_data(train, tmp_path, problems):
    """Its context counts; a damaged file is told."""
    config = tmp_path / "model" / "config.json"
    config.parent.mkdir()
    train |= {
        "model": {"type": "pretrained", "path": str(config.parent)},
        "batch": {"sequence": 256},
    }
    config.write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 128}))
    folder, batch = problems()
    assert folder.startswith("stages.base.train.model.path: ")
    assert "has no weights" in folder
    assert batch.startswith("stages.base.train.batch.sequence: 256 is longer")
    config.write_text('{"max_position_embed')
    (problem,) = problems()
    assert "config.json' is damaged (Unterminated string" in problem


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


def test_weights_of_0_are_an_error_of_the_spec(
    stages, train, problems, tiny_spec, write_spec, tmp_path
):
    """Where nothing is left to train on: all sources of a mixture, or the one source of records."""
    sources = stages["corpus"]["prepare"]["sources"]
    sources += [{**sources[0], "weight": 0}]
    load_spec(write_spec(tiny_spec))
    sources[0]["weight"] = 0
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n')
    rows = {"type": "files", "paths": [str(file)], "records": "completion", "weight": 0}
    chat = {**train, "data": rows, "model": "base", "objective": "sft", "evaluate": []}
    stages["chat"] = {"train": chat}
    assert problems() == [
        "stages.corpus.prepare.sources: every source has weight 0: there is nothing to train on; "
        "give one a weight",
        "stages.chat.train.data.weight: the only source has weight 0: leave it out",
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


def test_models_that_scores_could_not_tell_apart(stages, problems, tiny_spec, write_spec):
    """Each has a name, which is no other's, and not that of a stage whose model it is not."""
    again = {"type": "stage", "stage": "base"}
    scores = {"models": ["base", again], "evaluators": ["perplexity"], "data": "corpus"}
    stages["scores"] = {"evaluate": scores}
    twice = (
        "stages.scores.evaluate.models.1: another of the models is called 'base' as well; give one of "
        "them another `name`"
    )
    assert problems() == [twice]
    pinned = [{"type": "pretrained", "path": "some/model", "revision": r * 40} for r in "ab"]
    scores["models"] = pinned
    assert problems() == [twice.replace("'base'", "'some/model'")]
    scores["models"] = ["base", {**again, "name": "corpus"}]
    assert problems() == [
        "stages.scores.evaluate.models.1.name: 'corpus' is the name of a stage, whose model this is "
        "not; choose another"
    ]
    scores |= {"models": ["base", {**again, "name": "again"}], "baseline": "again"}
    load_spec(write_spec(tiny_spec))
    stages["more"] = {"train": {**stages["base"]["train"], "model": {**again, "name": "x"}}}
    assert problems() == ["stages.more.train.model.name: only counts in an evaluate stage"]


@pytest.mark.covers("model/stage.name", "model/pretrained.name")
def test_a_model_has_scores_under_its_name(stages, run_here, tiny_spec, capsys):
    """One stage's model as it is, by another name, and by its folder: a column each; a name may be the
    baseline."""
    run = run_here(tiny_spec)
    folder = {"type": "pretrained", "path": str(run.folder / "base" / "final"), "name": "copy"}
    models = ["base", {"type": "stage", "stage": "base", "name": "again"}, folder]
    scores = {"models": models, "evaluators": ["perplexity"], "data": "corpus", "baseline": "again"}
    stages["scores"] = {"evaluate": scores}
    run = run_here(tiny_spec)
    found = [e for e in run.events("score") if e["stage"] == "scores"]
    assert {e["model"] for e in found} == {"again", "base", "copy"}
    assert len({e["value"] for e in found if e["metric"] == "perplexity"}) == 1
    spec = load_spec(run.folder / "spec.yaml").spec
    print_summary(RunFolder(run.folder), spec, "done")
    shown = capsys.readouterr().out
    assert re.search(r"scores +base +again +copy\n", shown)
