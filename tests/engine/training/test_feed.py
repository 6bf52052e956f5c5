"""Rounds of episodes as a loop takes them: broken off, grown, counted."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.contracts.amounts import Amount
from engine.contracts.batch import Batch, Example
from engine.contracts.feed import FeedSetup, State
from engine.contracts.objective import Objective
from engine.contracts.optimizer import Progress
from engine.data.examples import TrainingData
from engine.data.mixture import Mixture, MixtureSource
from engine.training.feed import RecordFeed
from engine.training.loop_plan import Plan, Ramp
from engine.training.loss_terms import counts

BUDGET = Amount(2, "epochs")
PROMPTS, SEQUENCE = 12, 8


class Counted(Objective):
    """Counts rows, and observes their mean."""

    observes = True

    def encode(self, record, tokenizer, length):
        return iter(())

    def loss(self, hidden_BTD, head, batch):
        return {}

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
            min_micro_batches=1,
            inference=lambda averaged: nullcontext(None),
            all_sum=lambda sums: asked.append(sums) or sums,
        )
        setup = FeedSetup(None, data, ranks, plan, {}, Path(), None)
        feed, state = RecordFeed(Counted(), setup), State()
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
