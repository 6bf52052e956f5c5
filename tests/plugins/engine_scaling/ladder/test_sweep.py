"""A ladder from one spec: climbed, killed, resumed, and held to what it predicted."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml
from engine_scaling.ladder.predictions import digest_of
from engine_scaling.points.reading import read_points
from support.runs import events

from engine import RunError, SpecError


@pytest.fixture
def copied(climbed, new_climb):
    """A finished sweep that may be changed."""
    made, _ = climbed
    own = new_climb()
    shutil.copytree(made.folder, own.folder)
    return own


@pytest.fixture
def prepared(climbed, new_climb):
    """A sweep whose corpus and speed are there, and nothing else."""
    made, _ = climbed
    own = new_climb()
    shutil.copytree(made.folder / "runs/small", own.folder / "runs/small")
    shutil.copy(made.folder / "speed.json", own.folder)
    return own


def test_a_ladder_is_climbed_and_its_prediction_is_compared(climbed):
    """Several sizes at each budget, repetitions, a held-out run with its interval, tables and plots."""
    made, data = climbed
    points = {p["name"].removesuffix("/base"): p for p in data["points"]}
    small = [n for n in points if n.startswith("c3e08")]
    large = [n for n in points if n.startswith("c1.2e09")]
    assert len(small) >= 3
    assert sum("-r" in name for name in large) == 2
    assert len({points[name]["parameters"] for name in large}) >= 3
    for name in large:
        assert points[name]["flops"] == pytest.approx(1.2e9, rel=0.1)
    (result,) = data["results"]
    run = result["prediction"]
    assert run["flops"] == pytest.approx(4 * 1.2e9, rel=0.1)
    assert result["inside"] == (run["low"] <= result["measured"] <= run["high"])
    assert data["coverage"] == float(result["inside"])
    table = (made.folder / "results.md").read_text(encoding="utf-8")
    assert f"| {run['parameters']:,} |" in table
    assert f"{result['measured']:.4f}" in table
    for plot in ("compute.svg", "sizes.svg"):
        assert (made.folder / plot).read_text(encoding="utf-8").startswith("<svg")
    assert made.json("results.json") == data


def test_the_points_of_a_sweep_s_folder_are_those_of_its_law(climbed):
    """Its short trainings that measure the speed and the run of its text are none, even if they are
    named; a held-out run is one where it is named, and that is said."""
    made, data = climbed
    runs = made.folder / "runs"
    rungs = {point["name"] for point in data["points"]}
    (held_out,) = (one["prediction"]["name"] for one in data["results"])
    for folder in (made.folder, runs):
        found = read_points([folder])
        assert {point.name for point in found.points} == rungs
        assert dict(found.left_out) == {
            "small": "it holds the text of its sweep",
            "speed-w4": "its sweep measured the speed by it",
            "speed-w16": "its sweep measured the speed by it",
            held_out: "its sweep holds it out; name this run to fit it, too",
        }
    for paths in (sorted(runs.iterdir()), [runs, runs / held_out]):
        found = read_points(paths)
        assert {point.name for point in found.points} == {*rungs, f"{held_out}/base"}
        assert {name for name, _ in found.left_out} == {"small", "speed-w4", "speed-w16"}
        assert f"Held out by their sweep, and fitted as named: {held_out}/base." in found.notes


def test_a_damaged_file_of_roles(copied):
    """Is refused with its name; the sweep's command makes it again."""
    file = copied.folder / "roles.json"
    whole = file.read_text(encoding="utf-8")
    for text in ("{", "[]", '{"small": "king"}'):
        file.write_text(text, encoding="utf-8")
        with pytest.raises(SpecError, match=r"roles.json: is damaged"):
            read_points([copied.folder])
    copied.again()
    assert file.read_text(encoding="utf-8") == whole


def test_repetitions_differ_in_their_seed_alone(climbed):
    """They have the size and steps of one run, and other losses."""
    made, data = climbed
    losses = {p["name"].removesuffix("/base"): p["loss"] for p in data["points"]}
    for name in (n for n in losses if n.endswith(("-r1", "-r2"))):
        first = yaml.safe_load((made.folder / f"specs/{name[:-3]}.yaml").read_text())
        again = yaml.safe_load((made.folder / f"specs/{name}.yaml").read_text())
        assert again["stages"]["base"]["train"].pop("repetition") == int(name[-1])
        assert again | {"name": first["name"]} == first
        assert losses[name] != losses[name[:-3]]


def test_predictions_are_written_before_the_held_out_runs_start(climbed):
    """The file has the law's digest and each spec's, and is older than the first event of the runs."""
    made, data = climbed
    predictions = made.json("attempts/1/predictions.json")
    assert [predictions] == data["attempts"]
    law = (made.folder / "attempts/1/law.json").read_text(encoding="utf-8")
    assert predictions["law"] == digest_of(law)
    written = (made.folder / "attempts/1/predictions.json").stat().st_mtime
    for run in predictions["runs"]:
        spec = (made.folder / f"specs/{run['name']}.yaml").read_text(encoding="utf-8")
        assert run["spec"] == digest_of(spec)
        assert events(made.folder / "runs" / run["name"])[0]["time"] > written - 0.01
    assert made.ran[-1] == predictions["runs"][-1]["name"]


def test_a_finished_ladder_is_shown_again_without_a_run(copied, climbed):
    """Only the corpus is looked at; the results are the same, and no attempt is added."""
    _, data = climbed
    assert copied.again() == data
    assert copied.ran == ["base"]


def test_a_ladder_that_is_interrupted_goes_on_where_it_was(copied, climbed):
    """Stopped in the middle and again before the held-out run, it ends with the same losses and law,
    and runs none twice."""
    made, data = climbed
    last = made.ran[-3:]
    for name in last:
        shutil.rmtree(copied.folder / "runs" / name)
    shutil.rmtree(copied.folder / "attempts")
    for _ in range(2):
        copied.ran.clear()
        copied.stop_at = 1
        with pytest.raises(KeyboardInterrupt):
            copied.again()
    copied.stop_at = None
    again = copied.again()
    assert again["points"] == data["points"]
    assert again["law"] == data["law"]
    assert [one["measured"] for one in again["results"]] == [
        one["measured"] for one in data["results"]
    ]
    assert copied.ran == ["base", last[1], "base", last[2]]


def test_a_held_out_set_is_looked_at_once(copied):
    """With another law the same budgets are refused; others are a second attempt, and both stay."""
    file = copied.folder / "attempts/1/predictions.json"
    file.write_text(json.dumps(copied.json("attempts/1/predictions.json") | {"law": "another"}))
    with pytest.raises(
        SpecError, match=r"--held-out: 4 times .* looked at on .* UTC.*--held-out 5"
    ):
        copied.again()
    data = copied.again("3")
    assert [attempt["number"] for attempt in data["attempts"]] == [1, 2]
    assert "attempt 2" in (copied.folder / "results.md").read_text(encoding="utf-8")
    assert (copied.folder / "attempts/1/results.json").exists()


def test_a_held_out_run_that_cannot_be_made_leaves_the_attempt_as_it_is(copied):
    """It stays among those not made, and the same command again looks at the same attempt."""
    shutil.rmtree(copied.folder / "attempts")
    first = copied.again("4,4x99")
    assert [run["held_out"] for run in first["attempts"][0]["runs"]] == ["4"]
    assert "fewer than 4" in first["skipped"]["held out 4x99"]
    assert copied.again("4,4x99") == first


def test_predictions_that_were_not_looked_at_may_change(copied):
    """As long as no held-out run was started, another law makes the same attempt anew."""
    predictions = copied.json("attempts/1/predictions.json")
    file = copied.folder / "attempts/1/predictions.json"
    file.write_text(json.dumps(predictions | {"law": "another"}))
    shutil.rmtree(copied.folder / "runs" / predictions["runs"][0]["name"])
    (attempt,) = copied.again()["attempts"]
    assert attempt["number"] == 1
    assert attempt["law"] == predictions["law"]


def test_runs_that_fail_are_told_and_can_be_run_again(copied):
    """A budget with too few runs left stops the ladder with the reason; mended, it goes on."""
    name = copied.json("results.json")["points"][0]["name"].removesuffix("/base")
    shutil.rmtree(copied.folder / "runs" / name)
    copied.fails = name
    with pytest.raises(RunError, match=r"3e\+08 FLOPs: 2 of its runs are done, and 3 are needed"):
        copied.again()
    copied.fails = None
    copied.again()
    assert copied.ran == ["base", "base", name]


@pytest.mark.parametrize(
    ("flops", "told"),
    [
        (1e5, r"fewer than 3 sizes can be trained \(c1e05-w\d+: 0 steps, fewer than 4"),
        (4e11, r"tokens, more than the [\d,]+ that are there"),
    ],
)
def test_a_budget_that_is_too_small_or_repeats_data_is_refused(prepared, flops, told):
    """With the runs that it would have, and what to change; nothing is trained."""
    with pytest.raises(SpecError, match=told):
        prepared.again(flops=flops)
    assert prepared.ran == ["base"]
    assert not (prepared.folder / "plan.json").exists()  # another budget may be tried


def test_a_folder_keeps_to_its_plan(copied):
    """Other budgets or sizes are another ladder."""
    with pytest.raises(SpecError, match="planned with other options"):
        copied.again(sizes=4)
    with pytest.raises(SpecError, match="planned with other options"):
        copied.again(seconds=30.0)


def test_a_ladder_without_held_out_runs_only_fits(copied):
    """`--held-out none`: there is a law and no prediction."""
    shutil.rmtree(copied.folder / "attempts")
    data = copied.again("none")
    assert (data["attempts"], data["results"], data["coverage"]) == ([], [], None)
    assert copied.json("law.json")["best"] == data["law"]
