"""Rows that cannot be learnt from, among those of a train stage."""

from __future__ import annotations

import pytest

from engine import RunError


def test_bad_rows_are_left_out_and_named(stage, run_here, sums):
    """In the log, by reason and place; what is learnt is the same as without them."""
    bad = [
        {"prompt": "a", "completion": "half \ud83d"},
        {"prompt": "b", "completion": "zero \0"},
        7,
    ]
    spec = stage([*sums[:9], *bad, *sums[9:]])
    run = run_here(spec)
    (told,) = [event for event in run.events("examples") if event["stage"] == "tuned"]
    file = spec["stages"]["tuned"]["train"]["data"]["paths"][0]
    assert told["dropped"] == {"lone-surrogate": 1, "nul": 1, "no-object": 1}
    assert told["bad_rows"] == [
        f"{file}:10 lone-surrogate",
        f"{file}:11 nul",
        f"{file}:12 no-object",
    ]
    assert told["records"] == len(sums) + 3
    (source,) = run.events("source")
    assert (source["shape"], source["schema"]) == ("prompts and completions", "completion")
    without = run_here(stage(sums), runs="without")
    assert without.weights("tuned").keys() == run.weights("tuned").keys()
    assert all((without.weights("tuned")[n] == w).all() for n, w in run.weights("tuned").items())


def test_too_many_bad_rows_stop_the_stage_before_its_first_step(stage, run_here, sums):
    """The first ten are named; a higher limit goes on with the others."""
    spec = stage([*sums, *({"prompt": n, "completion": "c"} for n in range(12))])
    with pytest.raises(
        RunError, match=r"12 of 76 rows(?s:.*)completion.jsonl:74: 'prompt' is int, neither"
    ):
        run_here(spec)
    spec["stages"]["tuned"]["train"]["data"]["bad"] = 0.2
    run = run_here(spec)
    (told,) = [event for event in run.events("examples") if event["stage"] == "tuned"]
    assert told["dropped"] == {"wrong-type": 12}
    assert [event["step"] for event in run.events("step") if event["stage"] == "tuned"] == [
        1,
        2,
        3,
        4,
    ]


def test_records_that_the_objective_does_not_take_are_an_error(stage, run_here, talks, tmp_path):
    """Also where only reading tells what a source gives."""
    import datasets

    datasets.Dataset.from_list([{"text": "a"}] * 9).save_to_disk(str(tmp_path / "saved"))
    spec = stage(talks)
    spec["stages"]["tuned"]["train"]["data"] = {"type": "hugging-face", "path": f"{tmp_path}/saved"}
    with pytest.raises(
        RunError, match="saved:1: a text record, but 'sft' takes chat or completion"
    ):
        run_here(spec)
