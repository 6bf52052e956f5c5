"""What of a post-training spec can be known to fail is told before anything runs."""

from __future__ import annotations

import pytest

from engine.errors import SpecError
from engine.spec import load_spec

ONLINE = {"rewards": [{"type": "length"}], "answer_tokens": 10}
NUMBER = "gives one number for a text, and not the next token"
TOKEN = "gives the next token, and not one number for a text"


@pytest.fixture
def told(stage, animals, write_spec):
    """The errors of a stage ``learned``, beside a base model and a judge."""

    def tell(objective, rows="prompt", *, processes=1, **train):
        columns = {"prompt": ("prompt",), "preference": ("prompt", "chosen", "rejected")}
        chosen = [{name: row[name] for name in columns[rows]} for row in animals]
        spec = stage(objective, chosen, **train)
        judge = {**spec["stages"]["learned"]["train"], "model": "base", "objective": "reward"}
        judge["data"] = {**judge["data"], "records": "preference"}
        spec["stages"]["judge"] = {"train": judge}
        with pytest.raises(SpecError) as caught:
            load_spec(write_spec(spec), processes=processes)
        parts = [line.partition("stages.learned.train.") for line in str(caught.value).split("\n")]
        return [wrong for _, here, wrong in parts if here]

    return tell


@pytest.mark.parametrize("kind", ["ppo", "rloo", "grpo"])
def test_rewards_are_models_of_one_number(told, kind):
    """Also those of costs; a language model's stage is refused, with the stages that would do."""
    constraint = {"reward": {"type": "stage", "stage": "base"}}
    rewards = [{"type": "stage", "stage": "base"}]
    mend = f"the model of 'base' {TOKEN}; stages here whose model does: judge"
    assert told({"type": kind, **ONLINE, "rewards": rewards, "constraints": [constraint]}) == [
        f"objective.rewards.0.stage: {mend}",
        f"objective.constraints.0.reward.stage: {mend}",
    ]


@pytest.mark.parametrize(
    ("objective", "rows"),
    [({"type": "ppo", **ONLINE}, "prompt"), ({"type": "dpo"}, "preference")],
)
def test_references_and_policies_are_language_models(told, objective, rows):
    """A reward model that is named as one is refused: it would be asked for tokens all the same."""
    assert told({**objective, "reference": "judge"}, rows) == [
        f"objective.reference: the model of 'judge' {NUMBER}; stages here whose model does: base"
    ]
    assert told(objective, rows, model="judge") == [f"model: the model of 'judge' {NUMBER}"]


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
        "objective: 8 answers of a round cannot be shared alike by 3 mini-batches"
    )
    rloo = {"type": "rloo", **ONLINE, "answers": 2, "mini_batches": 2}
    (wrong,) = told(rloo, processes=2, strategy="ddp", batch={"examples": 3})
    assert wrong.startswith("objective: 6 answers of a round")
