"""Specs and options that no ladder can be made of: refused with the place, before anything runs."""

from __future__ import annotations

import copy

import pytest


def _without_train(stages):
    del stages["base"]


def _two_trains(stages):
    stages["again"] = copy.deepcopy(stages["base"])


def _without_score(stages):
    stages["base"]["train"]["evaluate"] = []


def _with_ramp(stages):
    stages["base"]["train"]["batch"]["ramp"] = {"every": "10 steps"}


def _other_data(stages):
    stages["base"]["train"]["data"] = {"type": "python-library", "parts": ["topics"]}
    stages["base"]["train"]["holdout"] = 0.1


def _no_width(stages):
    stages["base"]["train"]["model"] = {"type": "causal-lm", "architecture": "gpt2"}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without_train, "stages: a ladder needs one prepare and one train stage"),
        (_two_trains, "this spec has corpus (prepare), base (train), again (train)"),
        (_without_score, "stages.base.train.evaluate: has no perplexity"),
        (_with_ramp, "stages.base.train.batch.ramp: would differ between the runs"),
        (_other_data, "stages.base.train.data: is not the prepare stage 'corpus'"),
        (_no_width, "stages.base.train.model: 'causal-lm' has no hidden_size"),
    ],
)
def test_a_spec_that_makes_no_ladder_is_refused(
    tiny_spec, write_spec, command, tmp_path, change, told
):
    """With its file and line; no folder is made."""
    change(tiny_spec["stages"])
    spec = write_spec(tiny_spec)
    _, err = command("scaling", "sweep", spec, "--to", tmp_path / "sweep", status=2)
    assert err.startswith(f"{spec}:")
    assert told in " ".join(err.split())
    assert not (tmp_path / "sweep").exists()


@pytest.mark.parametrize(
    ("option", "value", "told"),
    [
        ("--budget", "15", "--budget 15: is no time; write e.g. 15m"),
        ("--budget", "-3m", "--budget -3m: is no time"),
        ("--budget", "0s", "--budget 0s: is no time"),
        ("--held-out", "4,,10", "--held-out 4,,10: is no list of budgets"),
        ("--held-out", "0.5", "--held-out 0.5: is no list of budgets"),
        ("--held-out", "4,4", "--held-out 4,4: one run is named twice"),
        ("--flops", "nan", "--flops nan: is not a finite number"),
        ("--flops", "inf", "--flops inf: is not a finite number"),
        ("--lr-power", "nan", "--lr-power nan: is not a finite number"),
        ("--sizes", "2", "Invalid value for '--sizes'"),
    ],
)
def test_an_option_that_says_nothing_is_refused(
    tiny_spec, write_spec, command, tmp_path, option, value, told
):
    """With what to write instead."""
    spec = write_spec(tiny_spec)
    _, err = command("scaling", "sweep", spec, "--to", tmp_path / "sweep", option, value, status=2)
    assert told in err
    assert not (tmp_path / "sweep").exists()
