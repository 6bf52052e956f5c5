"""Points are read from runs' folders and from tables, and what is none is said."""

from __future__ import annotations

import json
import math

import pytest
import yaml
from engine_scaling.points.reading import read_points
from support.runs import events

from engine import SpecError


def changed(run, change):
    """Writes the run's log again with each event changed; None drops it."""
    log = run / "events.jsonl"
    told = [change(event) for event in events(run)]
    text = "".join(json.dumps(event) + "\n" for event in told if event is not None)
    log.write_text(text, encoding="utf-8")


@pytest.fixture(scope="module")
def point(finished_run):
    """The point of the tiny run."""
    (found,) = read_points([finished_run]).points
    return found


def test_a_finished_run_s_point(point, finished_run):
    """Has the size, data, steps, FLOPs and held-out loss that the run recorded."""
    (training,) = events(finished_run, "training")
    score, bits = events(finished_run, "score")[-2:]
    assert (point.name, point.steps, point.seed) == ("tiny/base", 6, (5, 0))
    assert point.tokens == 6 * 256
    assert point.parameters == training["parameters"]
    assert point.body == point.parameters - 320 * 32  # 300 tokens, rounded up to 64ths
    assert point.flops == training["flops"]
    assert (score["metric"], bits["metric"]) == ("perplexity", "bits_per_byte")
    assert point.loss == pytest.approx(math.log(score["value"]))
    assert point.stderr == pytest.approx(score["stderr"] / score["value"])
    assert point.bits_per_byte == bits["value"]
    assert point.unique == point.tokens  # the corpus has 2,500
    assert point.tokenizer
    assert point.held_out == score["fingerprint"]


def test_a_folder_of_runs(point, finished_run):
    """Gives the points of all of them."""
    assert read_points([finished_run.parent]).points == (point,)


def test_a_repetition_has_a_seed_of_its_own(copied):
    """Which tells it from the run that it repeats."""
    file = copied / "resolved.yaml"
    spec = yaml.safe_load(file.read_text(encoding="utf-8"))
    spec["stages"]["base"]["train"]["repetition"] = 2
    file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    assert read_points([copied]).points[0].seed == (5, 2)


def test_repeated_data_is_counted_from_the_data_card(copied, point):
    """Tokens beyond those of the corpus are repeated."""
    card = json.loads((copied / "corpus" / "card.json").read_text(encoding="utf-8"))
    card["sources"][0]["tokens"] = 1000
    (copied / "corpus" / "card.json").write_text(json.dumps(card), encoding="utf-8")
    (found,) = read_points([copied]).points
    assert (found.tokens, found.unique) == (point.tokens, 1000)


def unfinished(event):
    return None if event["event"] == "stage_finished" and event["stage"] == "base" else event


def without_score(event):
    return None if event["event"] == "score" else {**event, "scores": []}


def of_value(value):
    def change(event):
        return {**event, "value": value} if event.get("metric") == "perplexity" else event

    return change


def of_budget(budget):
    def change(event):
        return {**event, "budget": budget} if event["event"] == "stage_finished" else event

    return change


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (unfinished, "it is not finished: it is running, or was killed, at step 6"),
        (of_value(None), "it diverged: its held-out loss is not finite"),
        (of_value(301.0), "it diverged: its held-out loss is above that of a uniform guess"),
        (without_score, "its final model has no held-out loss"),
        (of_budget("60 steps"), "it ended at 6 of 60 steps"),
        (of_budget("many"), "its record is damaged"),
    ],
    ids=["unfinished", "not finite", "uniform", "no score", "ended early", "damaged"],
)
def test_a_run_that_is_no_point(copied, change, reason):
    """Is left out with the reason."""
    (copied / "base" / "stage.json").unlink()
    changed(copied, change)
    found = read_points([copied])
    assert found.points == ()
    ((name, why),) = found.left_out
    assert name == "tiny/base"
    assert why.startswith(reason)


def test_a_model_that_was_trained_before(copied):
    """Is left out: its tokens are not all that it has seen."""
    spec = yaml.safe_load((copied / "resolved.yaml").read_text(encoding="utf-8"))
    spec["stages"]["base"]["train"]["model"] = {"type": "stage", "stage": "earlier"}
    (copied / "resolved.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    assert read_points([copied]).left_out == (("tiny/base", "its model was trained before"),)


def test_a_budget_in_time_has_no_known_flops(copied):
    """They count as 6·N·D, and it is said."""
    (copied / "base" / "stage.json").unlink()
    changed(copied, of_budget("75 seconds"))
    found = read_points([copied])
    assert found.points[0].flops == 6 * found.points[0].parameters * found.points[0].tokens
    assert "FLOPs as 6·N·D" in found.notes[0]


def test_flops_of_none_are_unknown(copied):
    """They count as 6·N·D, too."""
    changed(copied, lambda e: {**e, "flops": 0} if e["event"] == "training" else e)
    found = read_points([copied])
    assert found.points[0].flops == 6 * found.points[0].parameters * found.points[0].tokens
    assert "FLOPs as 6·N·D" in found.notes[0]


def test_a_damaged_log_and_one_that_is_being_written(copied, point):
    """Damaged lines are counted, and a last line without an end is left for later."""
    with (copied / "events.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"event": "st\n{"event": "stage_started", "sta')
    found = read_points([copied])
    assert found.points == (point,)
    assert found.notes == ("tiny: 1 damaged lines of its log were left out",)


@pytest.mark.parametrize("what", ["tokenizers", "held-out texts"])
def test_losses_that_cannot_be_compared(finished_run, copied, what):
    """Are refused with the names of the runs: of other tokenizers, or of other texts."""
    other = copied.rename(copied.parent / "other")
    if what == "tokenizers":
        manifest = other / "base" / "final" / "manifest.json"
        content = json.loads(manifest.read_text(encoding="utf-8"))
        content["files"]["tokenizer.json"] = "0" * 64
        manifest.write_text(json.dumps(content), encoding="utf-8")
    else:
        changed(other, lambda e: {**e, "fingerprint": "other"} if e["event"] == "score" else e)
    with pytest.raises(SpecError, match=f"different {what}.*tiny/base.*other/base"):
        read_points([finished_run, other])


def test_rows_of_other_lengths(finished_run, copied):
    """Are said, as held-out losses depend on what a token can see."""
    other = copied.rename(copied.parent / "other")
    spec = yaml.safe_load((other / "resolved.yaml").read_text(encoding="utf-8"))
    spec["stages"]["base"]["train"]["batch"]["sequence"] = 16
    (other / "resolved.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
    changed(other, of_value(250.0))
    (note,) = read_points([finished_run, other]).notes
    assert note.startswith("Rows differ (32 tokens in tiny/base, 16 tokens in other/base)")


def test_a_run_that_is_given_twice(finished_run, copied, tmp_path, point):
    """Counts once and is named: by its path, its folder, a link, or a copy under another name."""
    link = tmp_path / "link"
    link.symlink_to(finished_run)
    copy = copied.rename(copied.parent / "copy")
    found = read_points([finished_run, finished_run, finished_run.parent, link, copy])
    assert found.points == (point,)
    told = "Given more than once, and counted once: tiny/base, tiny/base, tiny/base, copy/base (as "
    assert found.notes == (f"{told}tiny/base).",)


def test_a_repetition_counts_beside_the_run_that_it_repeats(finished_run, copied):
    """Though all figures are alike."""
    file = copied / "resolved.yaml"
    text = file.read_text(encoding="utf-8")
    file.write_text(text.replace("seed: 5", "seed: 6"), encoding="utf-8")
    assert [p.seed for p in read_points([finished_run, copied]).points] == [(5, 0), (6, 0)]


def test_runs_that_a_callback_ended_early(copied, point):
    """Are left out with budgets in epochs and in time, too; those just before their end have the FLOPs
    of what they reached."""
    (copied / "base" / "stage.json").unlink()
    changed(copied, lambda e: {**e, "tokens": 1530} if e["event"] == "stage_finished" else e)
    changed(copied, of_budget("1536 tokens"))
    assert read_points([copied]).points[0].flops == pytest.approx(point.flops * 1530 / 1536)
    with (copied / "events.jsonl").open("a", encoding="utf-8") as log:
        log.write('{"event": "ended_early", "stage": "base", "step": 6, "reason": "x"}\n')
    for budget in ("2 epochs", "75 seconds"):
        changed(copied, of_budget(budget))
        assert read_points([copied]).left_out == (("tiny/base", "it ended early, at step 6"),)


def test_a_folder_without_runs(tmp_path):
    """Is refused."""
    with pytest.raises(SpecError, match="neither a run, nor a folder with runs, nor a table"):
        read_points([tmp_path])
