"""What of a post-training spec can be known to fail is told before anything runs."""

from __future__ import annotations

import re

import pytest

from engine import SpecError, load_spec

ONLINE = {"rewards": [{"type": "length"}], "answer_tokens": 10}
SCALAR = "has a scalar head, but a language-model head is needed"
TOKEN = "has a language-model head, but a scalar head is needed"


@pytest.fixture
def told(stage, animals, write_spec):
    """The errors of a stage ``learned``, beside a base model and a judge."""

    def tell(objective, rows="prompt", *, scores=None, **train):
        columns = {"prompt": ("prompt",), "preference": ("prompt", "chosen", "rejected")}
        chosen = [{name: row[name] for name in columns[rows]} for row in animals]
        spec = stage(objective, chosen, **train)
        spec["stages"]["base"]["train"]["evaluate"] = []
        judge = {**spec["stages"]["base"]["train"], "model": "base", "objective": "reward"}
        judge["batch"] = {"examples": 8}
        judge["data"] = {**spec["stages"]["learned"]["train"]["data"], "records": "preference"}
        spec["stages"]["judge"] = {"train": judge}
        if scores:
            spec["stages"]["scores"] = {"evaluate": scores}
        with pytest.raises(SpecError) as caught:
            load_spec(write_spec(spec))
        lines = str(caught.value).split("\n")
        return [re.sub(r".*?stages\.\w+\.\w+\.", "", line) for line in lines]

    return tell


@pytest.mark.parametrize("kind", ["ppo", "rloo", "grpo"])
def test_rewards_are_models_of_one_number(told, kind):
    """Also those of costs; a language model's stage is refused, with the stages that would do."""
    constraint = {"reward": {"type": "stage", "stage": "base"}}
    rewards = [{"type": "stage", "stage": "base"}]
    hint = f"the model of 'base' {TOKEN}; stages with one: judge"
    assert told({"type": kind, **ONLINE, "rewards": rewards, "constraints": [constraint]}) == [
        f"objective.rewards.0.stage: {hint}",
        f"objective.constraints.0.reward.stage: {hint}",
    ]


@pytest.mark.parametrize(
    ("objective", "rows"),
    [({"type": "ppo", **ONLINE}, "prompt"), ({"type": "dpo"}, "preference")],
)
def test_references_and_policies_are_language_models(told, objective, rows):
    """A reward model that is named as one is refused: it would be asked for tokens all the same."""
    assert told({**objective, "reference": "judge"}, rows) == [
        f"objective.reference: the model of 'judge' {SCALAR}; stages with one: base"
    ]
    assert told(objective, rows, model="judge") == [f"model: the model of 'judge' {SCALAR}"]


@pytest.mark.parametrize("kind", ["ppo", "rloo", "grpo", "trl-ppo"])
def test_rows_have_room_for_prompt_and_answer(told, kind):
    """Where the spec says how long they are."""
    asked = {"reward": "judge"} if kind == "trl-ppo" else {"rewards": [{"type": "length"}]}
    batch = {"examples": 8, "sequence": 32}
    (wrong,) = told({"type": kind, **asked, "answer_tokens": 32}, batch=batch)
    assert wrong.startswith(
        "objective: answer_tokens 32 leaves no room for a prompt in a row of 32"
    )


def test_rounds_are_shared_alike(told):
    """By mini-batches and processes."""
    ppo = {"type": "ppo", **ONLINE, "mini_batches": 3}
    (wrong,) = told(ppo)
    assert wrong.startswith(
        "objective: the 8 answers of a round do not divide evenly into 3 mini-batches"
    )
    rloo = {"type": "rloo", **ONLINE, "answers": 2, "mini_batches": 2}
    (wrong,) = told({**rloo, "mini_batches": 4}, batch={"examples": 3})
    assert wrong.startswith("objective: the 6 answers of a round")


def test_evaluators_get_what_they_ask_for(told):
    """A model with the head that they read, and held-out records: without, they failed or told
    nonsense when all was trained."""
    rewarded = {"type": "answer-reward", "rewards": [{"type": "length"}]}
    dpo, none = {"type": "dpo"}, "needs held-out records, but there are none"
    (wrong,) = told(dpo, "preference", evaluate=["preference-accuracy"], holdout=0.2)
    assert wrong.startswith("evaluate.0: 'preference-accuracy' needs a model with a scalar head")
    (wrong,) = told({"type": "ppo", **ONLINE}, evaluate=[rewarded])
    assert wrong.startswith(f"evaluate.0: 'answer-reward' {none}: set `holdout`")
    reward = {"type": "reward"}
    found = told(reward, "preference", evaluate=["answer-perplexity"], holdout=0.2)
    assert found == [
        "evaluate.0: 'answer-perplexity' needs a model with a language-model head, but the model of "
        "'learned' has a scalar head"
    ]


def test_evaluate_stages_ask_models_that_can_answer(told):
    """Whatever stage trained them."""
    scores = {"models": ["base", "judge"], "data": "base", "evaluators": ["perplexity"]}
    assert told({"type": "ppo", **ONLINE}, scores=scores) == [
        "evaluators.0: 'perplexity' needs a model with a language-model head, but the model of "
        "'judge' has a scalar head"
    ]
    scores |= {"models": ["base"], "data": None}
    (wrong,) = told({"type": "ppo", **ONLINE}, scores=scores)
    assert wrong.startswith("evaluators.0: 'perplexity' needs held-out records")


def test_names_of_rewards_can_be_folders(told):
    """A critic's folder is called after its cost."""
    constraint = {"reward": {"type": "length", "name": "../words"}}
    (wrong,) = told({"type": "ppo", **ONLINE, "constraints": [constraint]})
    assert wrong.startswith("objective.constraints.0.reward.name: ")
