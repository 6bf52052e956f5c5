"""Generated specs are run as runs of their own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from engine_scaling.runner import Job, Runner
from support.runs import steps
from support.sweeps import Watched, launched

from engine import SpecError, load_spec


@pytest.fixture
def base(tiny_spec, write_spec):
    """The tiny spec, resolved."""
    tiny_spec["stages"]["base"]["train"]["budget"] = "2 steps"
    return load_spec(write_spec(tiny_spec)).resolved()


@pytest.fixture
def runner(base, tmp_path):
    """A runner of changes of the tiny spec, whose corpus is prepared."""

    def make(seen=None) -> Runner:
        launch = launched(seen)
        return Runner(tmp_path / "sweep", base, prepared="corpus", stage="base", launch=launch)

    return make


def _job(name: str, **train) -> Job:
    return Job(name, {"stages": {"base": {"train": train}}})


def test_each_job_is_an_ordinary_run_on_the_shared_corpus(runner, tmp_path, engine):
    """It has a spec that `engine run` takes, a folder of its own, and links to the same files."""
    seen: list[str] = []
    made, watched = runner(seen), Watched()
    made.prepare(lambda event: None)
    jobs = [_job("slow", optimizer={"lr": 1e-3}), _job("fast", optimizer={"lr": 1e-2})]
    done = list(made.run(jobs, watched))
    assert [outcome.status for outcome in done] == ["done", "done"]
    assert seen == ["base", "slow", "fast"]
    assert watched.steps == 4
    sweep = tmp_path / "sweep"
    spec = yaml.safe_load((sweep / "specs" / "fast.yaml").read_text())
    assert spec == {
        "engine": 1,
        "extends": "base.yaml",
        "name": "fast",
        "stages": {"base": {"train": {"optimizer": {"lr": 1e-2}}}},
    }
    inodes = {
        os.stat(sweep / "runs" / name / "corpus/holdout.jsonl").st_ino for name in ("slow", "fast")
    }
    assert len(inodes) == 1
    told = engine("run", sweep / "specs/fast.yaml", "--runs", sweep / "runs", "--json").stdout
    assert told.count("stage_skipped") == 2


def test_what_is_done_is_not_run_again(runner):
    """A second pass over the same jobs starts no process."""
    made = runner()
    made.prepare(lambda event: None)
    list(made.run([_job("one")], Watched()))
    seen: list[str] = []
    again = list(runner(seen).run([_job("one"), _job("two")], Watched()))
    assert seen == ["two"]
    assert again[0].status == "done"
    assert again[0].stage.summary["steps"] == 2


def test_a_run_that_fails_tells_why_and_stops_no_other(runner, tmp_path):
    """The reason is one line, and all that it said is in a file."""
    made, watched = runner(), Watched()
    made.prepare(lambda event: None)
    jobs = [_job("wrong", optimizer={"lr": "much"}), _job("right")]
    wrong, right = made.run(jobs, watched)
    assert (wrong.status, right.status) == ("failed", "done")
    assert "optimizer.lr" in wrong.reason
    assert "optimizer.lr" in (tmp_path / "sweep/logs/wrong.txt").read_text()


def test_a_run_whose_process_dies_goes_on_from_its_checkpoint(runner, tmp_path):
    """Killed, it is a failure with the signal's name; run again, it repeats no saved step."""
    made = runner()
    made.prepare(lambda event: None)
    job = _job("killed", budget="40 steps", checkpoint={"every": "5 steps"})

    def killing(arguments, tell):
        program = [sys.executable, "-m", "engine.cli", *arguments]
        with subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as child:
            for line in child.stdout:
                if b'"checkpoint"' in line and b'"step": 5}' in line:
                    child.kill()
        return child.returncode, ""

    made._launch, launch = killing, made._launch
    (killed,) = made.run([job], Watched())
    assert (killed.status, killed.reason) == (
        "failed",
        f"its process was ended by {signal.SIGKILL.name}",
    )
    made._launch = launch
    (done,) = made.run([job], Watched())
    assert done.status == "done"
    assert done.stage.steps.columns()["step"].tolist() == list(range(1, 41))
    assert steps(Path(tmp_path / "sweep/runs/killed")).count(1) == 1


def test_a_folder_keeps_to_its_specs(runner, base, tmp_path):
    """Another base, or another spec for a run that was begun, is refused."""
    made = runner()
    made.prepare(lambda event: None)
    list(made.run([_job("one")], Watched()))
    with pytest.raises(SpecError, match=r"one\.yaml: has changed since its run was begun"):
        list(made.run([_job("one", clip=2.0)], Watched()))
    with pytest.raises(SpecError, match="holds runs of another spec"):
        Runner(tmp_path / "sweep", {**base, "seed": 6}, prepared="corpus", stage="base")
