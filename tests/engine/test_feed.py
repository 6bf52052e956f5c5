"""Rounds of episodes as a loop takes them: broken off, grown, counted."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from engine.component import Batch, Example, Progress
from engine.config import Amount
from engine.data.dataset import TrainingData
from engine.data.mixture import Mixture, MixtureSource
from engine.errors import RunError
from engine.feed import EpisodeFeed, RecordFeed
from engine.launch import Process
from engine.modules import padded
from engine.objective import BaseObjective, BaseOnlineObjective, Round
from engine.plan import Plan, Ramp, State
from engine.terms import counts
from engine.testing.standalone import StandAloneContext, tiny_model

BUDGET = Amount(2, "epochs")
PROMPTS, SEQUENCE = 12, 8


class Echo(BaseOnlineObjective):
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

    def collate(self, examples):
        return Batch({"input_ids": padded(examples, "input_ids")}, {}, {"loss": 1}, len(examples))


@pytest.fixture
def make(tmp_path):
    """A feed of numbered prompts."""
    context = StandAloneContext()
    alone = SimpleNamespace(
        data_rank=0,
        data_size=1,
        inference=lambda averaged: nullcontext(tiny_model(context)),
    )

    def build(ramp=None, count=PROMPTS, budget=BUDGET, **fields):
        objective = Echo()
        for name, value in fields.items():
            setattr(objective, name, value)
        prompts = [Example(1, {"input_ids": np.array([i])}) for i in range(count)]
        return EpisodeFeed(
            TrainingData(Mixture([MixtureSource("s", count)], 0), [prompts]),
            objective,
            alone,
            Plan("s", 0, SEQUENCE, 64, ramp or Ramp(4 * SEQUENCE), budget, 1.0, None, budget),
            process=Process(),
            tokenizer=context.tokenizer(),
            frozen={},
            folder=Path(tmp_path),
            progress=lambda *told: None,
        )

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


class Counted(BaseObjective):
    """Counts rows, and observes their mean."""

    observes = True

    def collate(self, examples):
        rows = torch.tensor([float(e.fields["row"]) for e in examples])
        return Batch({"input_ids": rows}, {}, {"loss": len(rows)}, len(rows))

    def observe(self, batch, model):
        return {"row": (float(batch.inputs["input_ids"].sum()), batch.counts["loss"])}

    def settle(self, batch, observed):
        return replace(batch, targets={"mean": torch.tensor(observed["row"])})


@pytest.mark.parametrize(("micro_rows", "pieces"), [(1, [2, 2, 1]), (2, [1, 1, 1])])
def test_all_ranks_have_as_many_micro_batches_in_a_short_last_step(micro_rows, pieces):
    """One without rows has a stand-in there, which is counted and observed by nobody."""
    budget, asked = Amount(1, "epochs"), []
    plan = Plan("s", 0, 8, micro_rows, Ramp(4 * 8), budget, 1.0, None, budget)
    rows = [Example(1, {"row": row}) for row in range(9)]
    data = TrainingData(Mixture([MixtureSource("s", 9)], 0), [rows])
    for rank in (0, 1):
        ranks = SimpleNamespace(
            data_rank=rank,
            data_size=2,
            inference=lambda averaged: nullcontext(None),
            all_sum=lambda sums: asked.append(sums) or sums,
        )
        feed, state = RecordFeed(data, Counted(), ranks, plan), State()
        while state.samples < 9:
            at = Progress(state.step, 0, 0.0, 0.0, budget)
            taken = feed.take(state, at, lambda: False)
            assert len(taken.micro_batches) == pieces[state.step]
            state.step, state.cursor = state.step + 1, taken.cursor
            state.samples += taken.samples
        (last,) = taken.micro_batches
        assert counts([last]) == {"loss": float(rank == 0), "tokens": float(rank == 0)}
        assert asked[-1]["row/count"] == (rank == 0)
        assert bool(asked[-1]["row"]) == (rank == 0)


def test_a_round_grows_by_what_can_be_shared(make):
    """Mini-batches stay alike, whatever the ramp's factor makes of the batch."""
    ramp = Ramp(4 * SEQUENCE, Amount(4, "steps"), 1.3)
    feed, state = make(ramp), State()
    sizes = [len(_step(feed, state)) for _ in range(4 * 4)]
    assert sizes == [2] * 8 + [3] * 4 + [4] * 4
    with pytest.raises(RunError, match="3 prompts, 3 episodes of a round cannot be shared alike"):
        make(Ramp(3 * SEQUENCE))
    make(Ramp(3 * SEQUENCE), episodes_per_prompt=2)
