"""Rounds of episodes as a loop takes them: broken off, grown, counted."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_rlhf.online.rollout_objective import RolloutObjective
from engine_rlhf.online.rounds import Round
from support.internals import Mixture, MixtureSource, Plan, Ramp, TrainingData

from engine import Amount, Batch, Example, FeedSetup, Progress, RunError, State
from engine.modeling import padded
from engine.testing import StandAloneContext, tiny_model

BUDGET = Amount(2, "epochs")
PROMPTS, SEQUENCE = 12, 8


class Echo(RolloutObjective):
    """Every episode is its prompt, once more."""

    passes, mini_batches, episodes_per_prompt = 2, 2, 1

    def __init__(self):
        self.rounds = 0

    def collect(self, number, prompts, models):
        return [example.fields["input_ids"] for example in prompts.values()]

    def learn(self, episodes):
        self.rounds += 1
        return Round([Example(1, {"input_ids": ids}) for ids in episodes])

    def state(self):
        return {"rounds": self.rounds}

    def load(self, state):
        self.rounds = state["rounds"]

    def encode(self, record, tokenizer, length):
        return iter(())

    def loss(self, hidden_BTD, head, batch):
        return {}

    def collate(self, examples):
        return Batch({"input_ids": padded(examples, "input_ids")}, {}, {"loss": 1}, len(examples))


@pytest.fixture
def make(tmp_path):
    """A feed of numbered prompts."""
    context = StandAloneContext()
    alone = SimpleNamespace(
        data_rank=0,
        data_size=1,
        min_micro_batches=1,
        companions=lambda: nullcontext({}),
        inference=lambda averaged: nullcontext(tiny_model(context)),
    )

    def build(ramp=None, count=PROMPTS, budget=BUDGET, **fields):
        objective = Echo()
        for name, value in fields.items():
            setattr(objective, name, value)
        prompts = [Example(1, {"input_ids": np.array([i])}) for i in range(count)]
        setup = FeedSetup(
            context=context,
            data=TrainingData(Mixture([MixtureSource("s", count)], 0), [prompts]),
            strategy=alone,
            plan=Plan("s", 0, SEQUENCE, 64, ramp or Ramp(4 * SEQUENCE), budget, 1.0, None, budget),
            frozen={},
            folder=Path(tmp_path),
            progress=lambda *told: None,
        )
        return objective.feed(setup)

    return build


def _take(feed, state):
    at = Progress(state.step, state.tokens, state.samples / PROMPTS, 0.0, BUDGET)
    taken = feed.take(state, at, lambda: False)
    ids = torch.cat([b.inputs["input_ids"][:, 0] for b in taken.micro_batches])
    return taken, sorted(ids.tolist())


def _step(feed, state):
    taken, ids = _take(feed, state)
    state.step, state.cursor = state.step + 1, taken.cursor
    state.samples += taken.samples
    return ids


@pytest.mark.parametrize("at", [0, 1, 4])
def test_a_signal_between_rollouts_and_step_loses_nothing(make, at):
    """What was taken and not learned from is taken again: by this feed, and by one that has its state,
    whose loop has not moved; what follows are other prompts."""
    feed, state = make(), State()
    for _ in range(at):
        _step(feed, state)
    _, lost = _take(feed, state)
    resumed, after = make(), replace(state)
    resumed.load(*feed.state())
    expected = [_step(feed, state) for _ in range(8)]
    assert expected[0] == lost
    assert [_step(resumed, after) for _ in range(8)] == expected
    assert after == state
    assert state.cursor == 4 * -(-state.step // 4)


def test_an_epoch_ends_with_its_last_round(make):
    """Its prompts are done with when all passes are: the budget ends no round in its first step."""
    feed, state = make(), State()
    while state.samples < PROMPTS:
        _step(feed, state)
    assert (state.step, state.cursor) == (3 * 4, PROMPTS)


@pytest.mark.parametrize(("count", "last"), [(11, [[8, 9], [10]]), (9, [[8]])])
def test_the_last_round_takes_the_prompts_that_are_left(make, count, last):
    """Each prompt is answered once in an epoch; a part of a round without episodes is no step."""
    feed, state, seen = make(count=count, budget=Amount(1, "epochs")), State(), []
    while state.samples < count:
        seen.append(_step(feed, state))
    first = seen[: len(seen) - 2 * len(last)]
    assert [len(part) for part in first] == [2] * 8
    assert [len(part) for part in seen[len(first) :]] == 2 * [len(part) for part in last]
    assert sorted(i for part in [*first[::4], *first[1::4], *seen[-len(last) :]] for i in part) == [
        *range(count)
    ]
    assert state.cursor == count


def test_a_round_grows_by_what_can_be_shared(make):
    """Mini-batches stay alike, whatever the ramp's factor makes of the batch."""
    ramp = Ramp(4 * SEQUENCE, Amount(4, "steps"), 1.3)
    feed, state = make(ramp), State()
    sizes = [len(_step(feed, state)) for _ in range(4 * 4)]
    assert sizes == [2] * 8 + [3] * 4 + [4] * 4
    told = r"a round of 3 prompts \(3 episodes\) does not divide evenly into 2 mini-batches"
    with pytest.raises(RunError, match=told):
        make(Ramp(3 * SEQUENCE))
    make(Ramp(3 * SEQUENCE), episodes_per_prompt=2)
