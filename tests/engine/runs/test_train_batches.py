"""Batches of a train stage have the size, the micro-batches and the growth that its spec asks for."""

from __future__ import annotations

import pytest
from engine_parallel.replicated import Replicated


@pytest.mark.covers(
    "Train.batch", "BatchSize.tokens", "BatchSize.sequence", "BatchSize.micro_tokens"
)
def test_batches_have_the_size_asked_for(tiny_spec, train, run_here, monkeypatch):
    """Rows of `sequence` tokens, in pieces of `micro_tokens`, `tokens` in all."""
    seen = []
    forward_backward = Replicated.forward_backward

    def spy(self, micro_batches, counts):
        seen.append([tuple(b.inputs["input_ids"].shape) for b in micro_batches])
        return forward_backward(self, micro_batches, counts)

    monkeypatch.setattr(Replicated, "forward_backward", spy)
    train["batch"] = {"tokens": 192, "sequence": 16, "micro_tokens": 80}
    run = run_here(tiny_spec)
    assert seen[0] == [(5, 16), (5, 16), (2, 16)]
    assert run.steps("tokens")[:2] == [192, 384]


def test_every_rank_has_as_many_rows(tiny_spec, train, run_here, monkeypatch):
    """Seven rows on two ranks are three on each: a rank with one more would wait for the other."""
    seen = []
    forward_backward = Replicated.forward_backward

    def spy(self, micro_batches, counts):
        seen.append([len(b.inputs["input_ids"]) for b in micro_batches])
        return forward_backward(self, micro_batches, counts)

    monkeypatch.setattr(Replicated, "forward_backward", spy)
    monkeypatch.setattr(Replicated, "all_sum", lambda self, values: dict(values))
    monkeypatch.setattr(Replicated, "_sum_over_ranks", lambda self: None)
    for rank in (0, 1):  # each by itself
        build = Replicated.__init__

        def two(self, context, bucket_mb=25.0, build=build, rank=rank):
            build(self, context, bucket_mb)
            self.data_rank, self.data_size = rank, 2

        monkeypatch.setattr(Replicated, "__init__", two)
        train["batch"] = {"tokens": 7 * 32, "micro_tokens": 64}
        run_here(tiny_spec, runs=str(rank))
        assert seen.pop() == [2, 1]


@pytest.mark.covers("BatchSize.ramp", "Ramp.every", "Ramp.factor", "Ramp.most")
def test_the_batch_grows_as_its_formula_says(tiny_spec, train, run_here):
    """base · factor^⌊t / every⌋, capped; schedule and budget read the same tokens."""
    train["batch"] = {"tokens": 64, "ramp": {"every": "256 tokens", "factor": 3, "most": 320}}
    train["budget"] = "2k tokens"
    run = run_here(tiny_spec)
    total, expected = 0, []
    while total < 2000:
        total += min(64 * 3 ** (total // 256), 320)
        expected.append(total)
    assert run.steps("tokens") == expected
