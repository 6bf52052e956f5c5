"""A budget in epochs: every row once in each, whatever the batch and however many ranks."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from pathlib import Path

import pytest
from engine_lm.next_token import NextTokenObjective

from engine.errors import RunError

ROWS = 78
"""Of the tiny corpus; two of them are alike."""


@pytest.fixture
def train(tiny_spec):
    """The train stage's part of the tiny spec, scored by nothing."""
    tiny_spec["stages"]["base"]["train"] |= {"evaluate": [], "precision": "fp32"}
    return tiny_spec["stages"]["base"]["train"]


@pytest.fixture
def read(monkeypatch):
    """The rows that are collated, each as its tokens."""
    rows: list[bytes] = []
    collate = NextTokenObjective.collate

    def spy(self, examples):
        rows.extend(example.fields["input_ids"].tobytes() for example in examples)
        return collate(self, examples)

    monkeypatch.setattr(NextTokenObjective, "collate", spy)
    return rows


@pytest.mark.parametrize("rows", [7, 16, 50, 100])
def test_every_row_is_read_once_an_epoch(tiny_spec, train, run_here, read, rows):
    """The last step takes what is left; a batch may be larger than the data."""
    train |= {"budget": "2 epochs", "batch": {"tokens": rows * 32}, "compile": False}
    tiny_spec["stages"]["corpus"]["prepare"]["sources"][0]["max_epochs"] = 2
    run = run_here(tiny_spec)
    assert len(run.steps("loss")) == -(-2 * ROWS // rows)
    passes = read[-2 * ROWS :]
    assert sorted(passes[:ROWS]) == sorted(passes[ROWS:])
    assert len(set(passes)) == ROWS - 1
    assert passes[:ROWS] != passes[ROWS:]
    assert run.events("stage_finished")[-1]["tokens"] == 2 * ROWS * 32


def test_more_epochs_than_the_data_has_are_refused_before_the_first_step(
    tiny_spec, train, run_here
):
    """Not after all the others have been trained for."""
    train["budget"] = "3 epochs"
    tiny_spec["stages"]["corpus"]["prepare"]["sources"][0]["max_epochs"] = 2
    with pytest.raises(RunError, match="a budget of 3 epochs is 234 rows, and the data ends after"):
        run_here(tiny_spec)


def _steps(run: Path) -> dict[str, list[tuple[float, ...]]]:
    """Tokens, loss and norm of every step, by stage."""
    found = defaultdict(list)
    for line in (run / "events.jsonl").read_text(encoding="utf-8").splitlines():
        event = json.loads(line)
        if event["event"] == "step":
            found[event["stage"]].append((event["tokens"], event["loss"], event["grad_norm"]))
    return found


def test_a_rank_without_rows_takes_part_and_counts_for_nothing(
    tiny_spec, train, run_here, engine, tmp_path
):
    """Of a step of one row, and of one of three in micro-batches of one, two ranks make what one
    process makes, however they share the work: sums of 1e-5 and no rank that waits for another."""
    jobs = {
        "ddp": ("ddp", 38),
        "shard": ({"type": "mesh", "shard": 2}, 38),
        "divided": ({"type": "zero", "stage": 3}, 12),
    }
    base = tiny_spec["stages"].pop("base")
    train |= {"budget": "0.5 epochs"}
    for name, (strategy, rows) in jobs.items():
        stage = tiny_spec["stages"][name] = copy.deepcopy(base)
        stage["train"] |= {
            "strategy": strategy,
            "batch": {"tokens": rows * 32, "micro_tokens": 32},
        }
    alone = copy.deepcopy(tiny_spec)
    for name in jobs:
        alone["stages"][name]["train"]["strategy"] = "single"
    run_here(alone, runs="alone")
    (tmp_path / "spec.yaml").write_text(json.dumps(tiny_spec), encoding="utf-8")
    engine("run", tmp_path / "spec.yaml", "--nproc", 2, "--runs", tmp_path / "two")
    expected, found = (_steps(tmp_path / runs / "tiny") for runs in ("alone", "two"))
    for name, (_, rows) in jobs.items():
        assert [step[0] for step in found[name]][-1] == 39 * 32
        assert len(found[name]) == -(-39 // rows)
        for own, its in zip(found[name], expected[name], strict=True):
            assert own == pytest.approx(its, rel=1e-5)
