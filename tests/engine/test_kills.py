"""A thousand SIGKILLs at random moments: the same weights, and no checkpoint that is not whole.

In five parts, each a fifth of the rows that hold every pair of settings together, so that each has all
kinds of objectives, ramps, evaluations and compiled layers; every other row on two processes.
"""

from __future__ import annotations

import shutil

import pytest
from support.kills import killed
from support.settings import ROWS, STRATEGIES, member, name_of

PARTS = 5
KILLS = 200
ZERO = [{"type": "zero", "stage": stage} for stage in (1, 2, 3)]


def _strategies(row):
    """Those that a row goes with on two processes."""
    for strategy in [*STRATEGIES, *ZERO]:
        if strategy.get("tensor") and row["objective"] not in ("next-token", "sft", "sft-packed"):
            continue  # which refuses scalar heads, noise and teachers
        yield strategy


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("part", range(PARTS))
def test_two_hundred_kills_of_settings_together(part, made, write_spec, warm, tmp_path):
    """Of a fifth of the rows, with the seed of the part."""
    rows = ROWS[part::PARTS]
    different, damaged, kills = [], [], 0
    for number, row in enumerate(rows):
        processes = 1 + number % 2
        train = {}
        if processes == 2:
            row = {**row, "optimizer": "adamw"}  # some of them cut matrices
            choice = list(_strategies(row))
            train["strategy"] = choice[(part + number // 2) % len(choice)]
            if train["strategy"].get("tensor"):
                row["model"] = "plain"  # whose parts it knows
            if train["strategy"]["type"] == "zero" and row["precision"] == "fp16":
                row["precision"] = "bf16"  # DeepSpeed has no fp16 on CPUs
        spec = member(made, row, **train)
        if processes == 2:
            for name in ("plain", "dropout"):  # which are made already
                spec["stages"][name]["train"]["strategy"] = {"type": "ddp"}
        runs = tmp_path / str(number)
        shutil.copytree(made[1] / "runs" / "tiny", runs / "whole" / "tiny")
        found = killed(
            warm,
            write_spec(spec),
            runs,
            -(-KILLS // len(rows)),
            seed=100 * part + number,
            processes=processes,
        )
        print(train.get("strategy", {}).get("type", ""), name_of(row), found, flush=True)
        kills += found["kills"]
        different += [(name_of(row), train)] * len(found["different"])
        damaged += found["damaged"]
        shutil.rmtree(runs)
    assert kills >= KILLS
    assert different == []
    assert damaged == []
