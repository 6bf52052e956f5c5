"""The texts of a batch, counted by hand."""

from __future__ import annotations

import pytest
from engine_plan.batches import Batch

from engine import Flops, TextLength


def batch(**fields) -> Batch:
    """Of eight texts of 20 tokens, of which 5 meet the head."""
    plain = {
        "length": TextLength(20, 5),
        "filled": False,
        "told": True,
        "texts": 8,
        "most": 2,
        "beside": Flops(0, 0, 0),
        "sampled": 0,
        "steps": 1,
    }
    return Batch(**{**plain, **fields})


def test_tokens_of_a_batch():
    """Eight texts of 20 tokens; a quarter of them meets the head; none is sampled."""
    one = batch()
    assert (one.tokens, one.at_head, one.passes(1)) == (160, 0.25, 0)


@pytest.mark.parametrize(
    ("sampled", "ranks", "steps", "passes"),
    [
        (64, 1, 1, 4),  # one group of 64: the first token comes from the prompt's own pass
        (65, 1, 1, 8),  # two groups
        (256, 2, 1, 8),  # 128 on each rank
        (256, 2, 4, 2),  # sampled once in four steps
    ],
)
def test_passes_that_sample_answers_of_five_tokens(sampled, ranks, steps, passes):
    """Answers are sampled 64 at a time, each token but the first in a pass of its own."""
    assert batch(sampled=sampled, steps=steps).passes(ranks) == passes


def test_a_batch_in_words():
    """With its answers; and that the length is a guess, where it is."""
    told = "8 texts of at most 20 tokens are learned from in a step"
    assert str(batch()) == told
    assert str(batch(told=False)) == f"{told}, if they fill their rows"
    assert str(batch(sampled=6)) == f"{told}; 6 answers of at most 5 are sampled in each"
    assert str(batch(sampled=6, steps=3)) == (
        f"{told}; 6 answers of at most 5 are sampled every 3 steps"
    )
