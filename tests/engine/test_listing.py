"""Runs and plugins as they are listed, and a model to take along."""

from __future__ import annotations

import json
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


def test_the_schema_is_of_the_plugins_asked_for(command):
    """Built-in ones are always in it."""
    schema = json.loads(command("schema")[0])
    assert schema == json.loads(command("schema", "--plugin", "lm")[0])
    assert schema["properties"]["engine"]["const"] == 1


def test_export(command, copied, tmp_path):
    """A folder that opens with transformers, with a card that says where it comes from."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path / "out" / "model"
    out, _ = command("export", copied / "base", folder)
    assert out == f"{folder}: opens with transformers' Auto classes\n"
    assert AutoModelForCausalLM.from_pretrained(folder).config.num_hidden_layers == 2
    assert AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"]
    card = (folder / "README.md").read_text(encoding="utf-8")
    for part in (
        "# tiny / base",
        "1,536 tokens in 6 steps",
        "| perplexity |",
        "| files | ",
        "seed: 5",
    ):
        assert part in card
    assert not (folder / "manifest.json").exists()


@pytest.mark.parametrize(
    ("place", "why"),
    [
        ("full", "is not empty; choose a new folder"),
        ("full/file", "cannot be written: Not a directory"),
        ("full/file/model", "cannot be written: "),
        ("x" * 300, "cannot be written: File name too long"),
    ],
)
def test_a_folder_that_a_model_cannot_go_to(command, copied, tmp_path, place, why):
    """Keeps what it has, and nothing half written stays."""
    full = tmp_path / "full"
    full.mkdir()
    (full / "file").write_text("mine")
    _, err = command("export", copied / "base", tmp_path / place, status=1)
    assert err.startswith(f"error: {tmp_path / place}: {why}")
    assert [path.name for path in full.rglob("*")] == ["file"]


def test_a_damaged_model_is_not_exported(command, copied, tmp_path):
    """Its file is named."""
    weights = copied / "base" / "final" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    _, err = command("export", copied / "base", tmp_path / "out", status=1)
    assert "model.safetensors: damaged" in err
    assert not (tmp_path / "out").exists()
