"""A budget in epochs: every row once in each, whatever the batch and however many ranks."""

from __future__ import annotations

import copy
import json
from collections import defaultdict
from pathlib import Path

import pytest
from engine_lm.next_token import NextTokenObjective
from support.runs import events

from engine.errors import RunError
from engine.processes.process import Process
from engine.runs.session import run_spec
from engine.spec.loading import load_spec

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
    with pytest.raises(RunError, match="a budget of 3 epochs is 234 rows, but the data ends after"):
        run_here(tiny_spec)


JOBS = {
    "ddp": ("ddp", 38),
    "shard": ({"type": "mesh", "shard": 2}, 38),
    "divided": ({"type": "zero", "stage": 3}, 12),
}
"""By stage its strategy, and the rows of a batch: of 39 rows one or three are left for the last."""


@pytest.fixture(scope="module")
def both(_tiny, engine_ranks, prepared, tmp_path_factory):
    """The folders of a run by one process and of one by two, in one start: a stage for every job, each
    scored on three documents and on one."""
    runs, spec = tmp_path_factory.mktemp("both"), copy.deepcopy(_tiny)
    base = spec["stages"].pop("base")
    base["train"] |= {"precision": "fp32", "budget": "0.5 epochs"}
    base["train"]["evaluate"] = [{"type": "perplexity", "limit": limit} for limit in (3, 1)]
    for name, (strategy, rows) in JOBS.items():
        stage = spec["stages"][name] = copy.deepcopy(base)
        batch = {"tokens": rows * 32, "micro_tokens": 32}
        stage["train"] |= {"strategy": strategy, "batch": batch}
    (runs / "spec.yaml").write_text(json.dumps(spec), encoding="utf-8")
    for folder in ("alone", "two"):
        prepared(runs / folder)
    engine_ranks(2, "run", runs / "spec.yaml", "--runs", runs / "two")
    overrides = [f"stages.{name}.train.strategy=single" for name in JOBS]
    alone = load_spec(runs / "spec.yaml", overrides=overrides)
    assert run_spec(alone, runs / "alone", Process(), as_json=True) == 0
    return runs / "alone" / "tiny", runs / "two" / "tiny"


def _fields(run: Path, event: str, *fields: str) -> dict[str, list[tuple[float, ...]]]:
    """These fields of every such event, by stage."""
    found = defaultdict(list)
    for told in events(run, event):
        found[told["stage"]].append(tuple(told[field] for field in fields))
    return found


@pytest.mark.parametrize("name", JOBS)
def test_a_rank_without_rows_takes_part_and_counts_for_nothing(both, name):
    """Of a step of one row, and of one of three in micro-batches of one, two ranks make what one
    process makes, however they share the work: sums of 1e-5 and no rank that waits for another."""
    expected, found = (_fields(run, "step", "tokens", "loss", "grad_norm")[name] for run in both)
    assert found[-1][0] == 39 * 32
    assert len(found) == -(-39 // JOBS[name][1])
    for own, its in zip(found, expected, strict=True):
        assert own == pytest.approx(its, rel=1e-5)


@pytest.mark.parametrize("name", JOBS)
def test_uneven_shares_of_a_score(both, name):
    """Three documents and one, on two ranks: nobody waits for ever; the figures are one process's."""
    expected, found = (_fields(run, "score", "n", "value")[name] for run in both)
    assert [n for n, _ in found] == [3, 3, 1, 1]
    for own, its in zip(found, expected, strict=True):
        assert own == pytest.approx(its, rel=1e-4)
