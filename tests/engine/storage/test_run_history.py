"""A run's folder tells what happened in it, also where its log is damaged or still being written."""

from __future__ import annotations

import json
import math
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest

from engine import RunError, SpecError, read_run
from engine.storage.run_history import RunHistory

GOLDEN = Path(__file__).parents[2] / "golden" / "run.tar.gz"


def lines(*events: dict[str, object]) -> bytes:
    return b"".join(json.dumps(event).encode() + b"\n" for event in events)


def step(number: int, loss: float | None = 1.0, **fields: object) -> dict[str, object]:
    return {"time": 1.0, "stage": "base", "step": number, "loss": loss, "event": "step", **fields}


@pytest.fixture
def run(tmp_path):
    """A function that makes a run's folder of a log and reads it."""

    def read(log: bytes) -> RunHistory:
        (tmp_path / "events.jsonl").write_bytes(log)
        return read_run(tmp_path)

    return read


def columns(history: RunHistory, name: str = "loss") -> list[float]:
    return history.stages["base"].steps.columns()[name].tolist()


def test_a_real_run_s_folder(tmp_path):
    """Gives every stage with its figures, record, spec and versions."""
    with tarfile.open(GOLDEN) as archive:
        archive.extractall(tmp_path, filter="data")
    history = read_run(tmp_path / "runs" / "tiny")
    assert list(history.stages)[:2] == ["corpus", "plain"]
    assert history.stages["corpus"].verb == "prepare"
    plain = history.stages["plain"]
    assert (plain.status, plain.summary["steps"], plain.training["parameters"]) == ("done", 1, 9264)
    assert history.stages["ppo"].status == "stopped"
    assert history.stages["ppo"].steps.columns()["kl"].shape == (2,)
    assert history.name == history.spec["name"] == "tiny"
    assert history.manifest["packages"].keys() >= {"torch"}
    assert history.damaged == 0


def test_repeated_steps_count_once(run):
    """Those after a kill, a roll-back or a rerun: with the scores that belong to them."""
    score = {"stage": "base", "event": "score", "metric": "perplexity", "value": 3}
    history = run(
        lines(
            step(1), {**score, "step": 1}, step(2), step(3), {**score, "step": 3},
            {"event": "resumed", "stage": "base", "step": 1}, step(2, 7.0),
        )
    )  # fmt: skip
    assert columns(history) == [1, 7]
    assert [s["step"] for s in history.stages["base"].scores] == [1]
    assert columns(run(lines(step(1), step(2), step(1, 5.0)))) == [5]


def test_samples_of_repeated_steps_count_once(run):
    """The last ones; other events stay."""
    sample = {"stage": "base", "event": "sample", "prompt": "a", "text": "b"}
    resumed = {"event": "resumed", "stage": "base", "step": 1}
    log = lines(step(1), {**sample, "step": 1}, step(2), {**sample, "step": 2}, resumed, step(2))
    events = run(log).stages["base"].events
    assert [(e["event"], e["step"]) for e in events] == [("sample", 1), ("resumed", 1)]


def test_steps_that_are_read_one_by_one(tmp_path):
    """Are the same columns as those that are read at once."""
    history = RunHistory(tmp_path)
    for number in range(1, 101):
        history.add(lines(step(number, float(number))))
        assert history.stages["base"].steps.column("loss").tolist()[-1] == number
    assert columns(history) == list(range(1, 101))
    assert math.isnan(history.stages["base"].steps.column("reward")[5])


def test_figures_that_are_missing(run):
    """Are NaN: at steps of another kind, where they were not finite, and where they are no numbers."""
    history = run(lines(step(1), step(2, None), step(3, reward=2.0), step(4, "much")))
    assert columns(history)[0] == 1
    assert np.isnan(columns(history)[1])
    assert np.isnan(columns(history)[3])
    assert [math.isnan(n) for n in columns(history, "reward")] == [True, True, False, True]


def test_a_text_where_a_figure_is_expected(run):
    """Costs its own step alone, wherever it stands; a field that has only texts is no figure."""
    history = run(lines(step(1, "5", kind="a"), step(2, 2.0, kind="b"), step(3, 3.0, kind="c")))
    assert np.isnan(columns(history)[0])
    assert columns(history)[1:] == [2, 3]
    assert "kind" not in history.stages["base"].steps.columns()


START = {"event": "stage_started", "stage": "base", "verb": "train"}
TRAINING = {"event": "training", "stage": "base", "parameters": 1}
EARLIER = (
    START, TRAINING, step(1),
    {"event": "warning", "stage": "base", "message": "slow"},
    {"event": "score", "stage": "base", "metric": "perplexity", "value": 3, "step": None},
    step(2), step(3), {"event": "stage_finished", "stage": "base", "steps": 3},
)  # fmt: skip


@pytest.mark.parametrize(
    "first", [step(1, 7.0), {"event": "checkpoint", "stage": "base", "step": 0}]
)
def test_a_stage_that_is_started_again(run, first):
    """Has nothing of its earlier attempt, from the moment that the log tells that it is a new one."""
    stage = run(lines(*EARLIER, START, TRAINING, first)).stages["base"]
    assert stage.steps.column("loss").tolist() == ([7.0] if first["event"] == "step" else [])
    assert [event["event"] for event in stage.events] == ["stage_started"]
    assert (stage.scores, stage.summary, stage.status) == ([], {}, "running")


def test_a_stage_that_is_continued(run):
    """Keeps its notes and the steps until its checkpoint; later ones count no more at once."""
    for kind in ("resumed", "rolled_back"):
        told = {"event": kind, "stage": "base", "step": 2, "reason": ""}
        history = run(lines(*EARLIER, START, TRAINING, told))
        assert columns(history, "step") == [1, 2]
        assert "warning" in [event["event"] for event in history.stages["base"].events]


def test_many_steps_come_in_order(run):
    """Whatever their number."""
    history = run(lines(*(step(n, float(n)) for n in range(1, 20_001))))
    assert columns(history) == columns(history, "step") == list(range(1, 20_001))


@pytest.mark.parametrize(
    "line", [b"{", b"[]", b"7", b'{"event": "step"}', b'{"event": "step", "stage": "base"}',
             b'{"event": "step", "stage": "base", "step": -1}', b"\xff\xfe", b"[" * 9000,
             b'{"event": "score", "stage": "base"}', b'{"stage": "base"}']
)  # fmt: skip
def test_damaged_lines_are_counted(run, line):
    """And all others are read."""
    history = run(lines(step(1)) + line + b"\n" + lines(step(2)))
    expected = 0 if line == b'{"event": "step"}' else 1
    assert (history.damaged, columns(history)) == (expected, [1, 1])


def test_a_line_that_is_being_written(run):
    """Is left for later, and is no damage."""
    history = run(lines(step(1)) + b'{"event": "st')
    assert (history.damaged, columns(history)) == (0, [1])


def test_a_failed_run(run):
    """Has failed in the stage that was running, until it is run again."""
    start = {"event": "stage_started", "stage": "base", "verb": "train"}
    failed = {"event": "failed", "error": "no space"}
    assert run(lines(start, failed)).stages["base"].status == "failed"
    assert run(lines(start, failed, start)).stages["base"].status == "running"
    done = {"event": "stage_finished", "stage": "base"}
    assert run(lines(start, failed, start, done)).stages["base"].status == "done"


def test_what_is_no_run(tmp_path):
    """Is refused."""
    with pytest.raises(SpecError, match="is not a run's folder"):
        read_run(tmp_path)
    (tmp_path / "resolved.yaml").write_text("name: x", encoding="utf-8")
    assert read_run(tmp_path).stages == {}
    (tmp_path / "events.jsonl").mkdir()
    with pytest.raises(RunError, match="cannot be read"):
        read_run(tmp_path)
    shutil.rmtree(tmp_path)


def _trained(tmp_path, budget, *, early=None, losses=(3.0, 2.0, 1.0), **training):
    """A training of a step for each loss, of 8 tokens each."""
    run = RunHistory(tmp_path)
    events = [{"event": "training", "flops": 1200.0, **training}]
    events += [{"event": "step", "step": n, "loss": v} for n, v in enumerate(losses, 1)]
    events += [{"event": "ended_early", "step": early, "reason": "no better"}] if early else []
    for event in events:
        run.add(json.dumps({"stage": "base", **event}).encode())
    stage = run.stages["base"]
    stage.summary = {"budget": budget, "steps": len(losses), "tokens": 8 * len(losses)}
    return stage


@pytest.mark.parametrize(
    ("budget", "early", "spent"),
    [
        ("3 steps", None, 1200.0),
        ("12 steps", 3, 300.0),
        ("48 tokens", 3, 600.0),
        ("2 epochs", None, 1200.0),
        ("2 epochs", 2, 1200.0),  # of a training before this one
        ("2 epochs", 3, None),
        ("2 seconds", None, None),
        ("lots", None, None),
    ],
)
def test_the_flops_of_a_training_that_ended_early(tmp_path, budget, early, spent):
    """Are a part of those of its budget; they are not told where that part is not known."""
    stage = _trained(tmp_path, budget, early=early)
    assert stage.flops_spent() == spent
    assert stage.flops_spent("executed_flops") is None
    assert (stage.ended_early is not None) == (early == 3)


@pytest.mark.parametrize("bad", [None, float("nan"), float("inf")])
def test_since_when_a_figure_is_not_finite(tmp_path, bad):
    """To the last step; a figure that has recovered, or that there is none of, is not lost."""
    for losses, since in (
        ([1.0, bad, 2.0, bad, bad], 4),
        ([bad, bad], 1),
        ([bad, 1.0], None),
        ([], None),
    ):
        steps = _trained(tmp_path, "3 steps", losses=losses).steps
        assert steps.not_finite_since("loss") == since
        assert steps.not_finite_since("reward") is None
