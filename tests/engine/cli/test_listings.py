"""Runs and plugins as they are listed."""

from __future__ import annotations

import json
import os
import shutil

import pytest


def test_the_runs_in_a_folder(command, copied):
    """Their stages in the order in which they run, and how they stand."""
    out, _ = command("runs", "--runs", copied.parent)
    rows = [line.split() for line in out.splitlines()]
    assert rows[0] == ["run", "stage", "status", "steps", "score"]
    assert rows[1] == ["tiny", "corpus", "done"]
    assert rows[2][:4] == ["base", "done", "6", "perplexity"]
    assert max(map(len, out.splitlines())) <= 80


def test_a_run_that_is_not_whole(command, copied):
    """Says of each stage what is the matter, and hides no other run."""
    torn = shutil.copytree(copied, copied.with_name("torn"))
    (torn / "resolved.yaml").write_text("stages: [")
    (copied / "base" / "stage.json").write_text("{")
    shutil.rmtree(copied / "corpus")
    rows = json.loads(command("runs", "--runs", copied.parent, "--json")[0])
    told = {row["run"]: row["stages"] for row in rows}
    assert {name: stage["status"] for name, stage in told["tiny"].items()} == {
        "corpus": "missing",
        "base": "damaged",
    }
    assert "--rerun base" in told["tiny"]["base"]["error"]
    assert "cannot be read" in told["torn"]["?"]["error"]


@pytest.mark.parametrize(
    ("event", "shown"),
    [
        ({"event": "failed", "error": "out of luck"}, {"status": "failed", "error": "out of luck"}),
        ({"event": "interrupted"}, {"status": "stopped"}),
        (
            {"event": "stopped", "stage": "base", "step": 3, "reason": "signal"},
            {"status": "stopped"},
        ),
        ({"event": "step", "step": 4}, {"status": "begun"}),
        ({"event": "failed", "error": 7}, {"status": "begun"}),
        (None, {"status": "begun"}),
    ],
)
def test_how_a_run_ended_that_is_not_done(command, copied, event, shown):
    """By the last event of its log, of which the last line may be torn."""
    file = copied / "base" / "stage.json"
    told = json.loads(file.read_text())
    del told["checksum"]
    file.write_text(json.dumps(told | {"status": "begun", "summary": {}}))
    log = copied / "events.jsonl"
    if event is None:
        log.unlink()
    else:
        with log.open("a") as lines:
            lines.write(json.dumps(event) + '\n{"event": "st')
    (row,) = json.loads(command("runs", "--runs", copied.parent, "--json")[0])
    assert row["stages"]["base"] == shown
    assert row["stages"]["corpus"] == {"status": "done"}


BOMB = "a0: &a0 [1]\n" + "".join(
    f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 12)
)


@pytest.mark.parametrize("text", ["[" * 5000, "a: !!int ''", f"a: {'1:' * 400}1.5", BOMB, "[1]"])
def test_a_run_that_somebody_made_up(command, copied, text):
    """Is damaged, whatever its description makes of YAML, and hides no other run."""
    torn = shutil.copytree(copied, copied.with_name("torn"))
    (torn / "resolved.yaml").write_text(text)
    rows = json.loads(command("runs", "--runs", copied.parent, "--json")[0])
    told = {row["run"]: row["stages"] for row in rows}
    assert told["torn"]["?"]["status"] == "damaged"
    assert told["tiny"]["base"]["status"] == "done"


@pytest.mark.parametrize(
    ("changed", "shown"),
    [
        ({"status": "[/x]"}, "[/x]"),
        ({"status": "begun", "summary": {"scores": None}}, "begun"),
        ({"status": "begun", "choices": {"sequence": "long"}}, "damaged"),
        ({"status": "begun", "choices": {"precision": None}}, "damaged"),
        (None, "damaged"),
    ],
)
def test_a_stage_that_somebody_made_up(command, copied, changed, shown):
    """Is shown as it says, or damaged; a pipe in its place is not waited for."""
    file = copied / "base" / "stage.json"
    if changed is None:
        file.unlink()
        os.mkfifo(file)
    else:
        told = json.loads(file.read_text())
        del told["checksum"]
        file.write_text(json.dumps(told | changed))
    out, _ = command("runs", "--runs", copied.parent)
    assert out.splitlines()[2].split()[1] == shown


def test_a_folder_without_runs(command, tmp_path):
    """Or that is not there, or is none, has none."""
    (tmp_path / "[b]").touch()
    for name in (".", "none", "[b]"):
        assert command("runs", "--runs", tmp_path / name)[0].split()[:3] == ["no", "runs", "in"]
        assert json.loads(command("runs", "--runs", tmp_path / name, "--json")[0]) == []


def test_the_plugins(command):
    """Name, distribution, version, status and components, in 80 columns."""
    out, _ = command("plugins")
    assert max(map(len, out.splitlines())) <= 80
    rows = json.loads(command("plugins", "--json")[0])
    for row in rows:
        assert f"{row['name']}  {row['distribution']} {row['version']}  {row['status']}" in out
    (lm,) = (row for row in rows if row["name"] == "lm")
    assert (lm["distribution"], lm["status"], lm["error"]) == ("training-engine", "ok", None)
    assert "llama" in lm["components"]["model"]
    command("plugins", "--check")


def test_a_plugin_s_part_of_the_schema_has_its_components(command):
    """By kind and type, each as the schema of specs has it."""
    schema = json.loads(command("schema")[0])
    assert schema["properties"]["engine"]["const"] == 1
    part = json.loads(command("schema", "--plugin", "lm")[0])
    assert {kind: list(part[kind]) for kind in ("objective", "evaluator")} == {
        "objective": ["next-token"],
        "evaluator": ["perplexity"],
    }
    assert part["objective"]["next-token"] == schema["$defs"]["NextToken"]
    assert part["optimizer"]["adamw"]["$defs"].keys() < schema["$defs"].keys()
    told = "'rhlf' is not installed; did you mean 'rlhf'?; installed: callbacks, corpus, "
    assert told in command("schema", "--plugin", "rhlf", status=2)[1]
