"""Rewards see the row: every column of a prompt's record but the prompt, in training and evaluation."""

from __future__ import annotations

import pytest
import torch
from engine_rlhf.online.prompts import as_text
from engine_rlhf.rewards.scoring import reward_prompt, row_of

from engine import Completion, Preference, Prompt
from engine.testing import check_component

KINDS = ("ppo", "rloo", "grpo")


def _rows(count):
    return [
        {"prompt": f"{n}+{n + 3}=", "answer": str(2 * n + 3), "id": f"sum-{n}", "more": {"n": n}}
        for n in range(count)
    ]


@pytest.fixture
def solve(stage, service, run_here, tmp_path):
    """Runs a stage by each objective; each asks the service for its reward and for a cost."""

    def run(rows, kinds=KINDS, budget="2 steps", runs="runs", **train):
        asks = {"type": "http", "url": service.url}
        spec = stage({}, rows, budget=budget, **train)
        learned = spec["stages"].pop("learned")["train"]
        for kind in kinds:
            objective = {"type": kind, "rewards": [asks], "answer_tokens": 4}
            objective |= {"passes": 1} if kind == "ppo" else {"answers": 2}
            objective["constraints"] = [{"reward": {**asks, "name": "cost", "weight": 0.1}}]
            spec["stages"][kind] = {"train": {**learned, "objective": objective}}
        return run_here(spec, runs=runs)

    return run


def test_a_service_sees_the_row_of_each_answer(solve, service):
    """In every objective, for rewards and for constraints: the columns beside its own prompt."""
    rows = _rows(16)
    by_prompt = {row["prompt"]: row for row in rows}
    solve(rows)
    assert len(service.questions) == 3 * 2 * 2
    for asked in service.questions:
        assert len(asked["rows"]) == len(asked["completions"]) >= 8
        for prompt, row in zip(asked["prompts"], asked["rows"], strict=True):
            assert {"prompt": prompt, **row} == by_prompt[prompt]


def test_a_broken_run_asks_the_same_again(solve, service):
    """After two steps and then two more, the weights are those of four at once."""
    service.answer = lambda asked: {
        "scores": [len(text) + row["more"]["n"] for text, row in _pairs(asked)]
    }
    whole = solve(_rows(16), ["grpo"], "4 steps", checkpoint={"every": "1 steps"})
    asked, service.questions = service.questions, []
    weights = whole.weights("grpo")
    for budget in ("2 steps", "4 steps"):
        again = solve(_rows(16), ["grpo"], budget, checkpoint={"every": "1 steps"}, runs="again")
    assert service.questions == asked
    found = again.weights("grpo")
    assert all(torch.equal(weight, found[name]) for name, weight in weights.items())


def _pairs(asked):
    return zip(asked["completions"], asked["rows"], strict=True)


def test_an_evaluator_gives_rows_too(solve, service):
    """Those of the held-out records."""
    rows = _rows(24)
    asks = {"type": "http", "url": service.url}
    evaluator = {"type": "answer-reward", "rewards": [asks], "costs": [asks], "answer_tokens": 4}
    run = solve(rows, ["rloo"], "1 steps", holdout=0.3, evaluate=[evaluator])
    (held,) = {e["held_out"] for e in run.events("examples")}
    found = [q for q in service.questions if len(q["rows"]) == held]
    assert len(found) == 2
    by_prompt = {row["prompt"]: row for row in rows}
    for asked in found:
        for prompt, row in zip(asked["prompts"], asked["rows"], strict=True):
            assert {"prompt": prompt, **row} == by_prompt[prompt]


def test_an_answer_that_comes_with_a_prompt_is_a_column():
    """Of completions and preferences; what is not there is none."""
    common = {"id": "x:1", "source": "x", "license": "MIT", "meta": {"level": 3}}
    assert row_of(Prompt(prompt="p", **common)) == {"level": 3}
    completion = Completion(prompt="p", completion="c", **common)
    assert row_of(completion) == {"level": 3, "completion": "c"}
    preference = Preference(prompt="p", chosen="a", rejected="b", chosen_safe=False, **common)
    assert row_of(preference) == {
        "level": 3,
        "chosen": "a",
        "rejected": "b",
        "chosen_safe": False,
    }


def test_a_user_s_only_message_is_a_text():
    """Other conversations come as they are, and a person reads them line by line."""
    user, system = {"role": "user", "content": "hi"}, {"role": "system", "content": "Be brief."}
    parts = {"role": "user", "content": [{"type": "text", "text": "hi"}]}
    assert reward_prompt("hi") == reward_prompt([user]) == as_text("hi") == "hi"
    for prompt in ([system, user], [system], [parts]):
        assert reward_prompt(prompt) == prompt
    assert as_text([system, user]) == "system: Be brief.\nuser: hi"


def test_what_json_does_not_know_reaches_a_service(bench, service):
    """As null where a number is none, which is how data frames mark a gap, and as text where it is of
    another kind; halves of characters pass."""
    import datetime

    row = {"gap": float("nan"), "list": [1.5, float("inf")], "day": datetime.date(2026, 1, 2)}
    reward = bench.context.build("reward", {"type": "http", "url": service.url, "attempts": 1})
    reward.score(["p\ud800"], ["a"], [row])
    (asked,) = service.questions
    assert asked["rows"] == [{"gap": None, "list": [1.5, None], "day": "2026-01-02"}]
    assert asked["prompts"] == ["p\ud800"]


def test_the_kit_gives_objectives_rows(bench):
    """That rewards which check answers find their columns in."""
    rewards = [{"type": "length"}, {"type": "answer"}]
    for kind in ("rloo", "grpo"):
        settings = {"type": kind, "rewards": rewards, "answer_tokens": 6}
        check_component("objective", settings, bench.context)
