"""A changed stage is refused, one run at a time is in a folder, and it says what was run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

import pytest

from engine.errors import RunError
from engine.spec.loading import load_spec
from engine.storage.manifest import complete, sealed, unsealed
from engine.storage.run_folder import RunFolder


def test_a_changed_stage_is_refused_before_anything_is_written(tiny_spec, run_here):
    """All changes of all stages are told, with the options that start them anew."""
    run = run_here(tiny_spec)
    before = _contents(run.folder)
    tiny_spec["seed"] = 6
    tiny_spec["stages"]["base"]["train"]["model"]["layers"] = 1
    with pytest.raises(RunError) as caught:
        run_here(tiny_spec)
    assert str(caught.value) == (
        "corpus: differs from the stage that was begun: seed: 5 → 6\n"
        "base: differs from the stage that was begun: seed: 5 → 6; model.layers: 2 → 1; "
        "start over with --rerun corpus --rerun base, or give the run another name"
    )
    after = _contents(run.folder)
    assert after.pop("events.jsonl").startswith(before.pop("events.jsonl"))
    assert after == before


def test_what_is_made_from_a_changed_stage_is_changed_too(tiny_spec, run_here):
    """Asking for the first anew is not enough: nothing old is mixed with it."""
    run_here(tiny_spec)
    tiny_spec["stages"]["corpus"]["prepare"]["holdout"] = 0.2
    tiny_spec["stages"]["base"]["train"]["budget"] = "2 steps"
    with pytest.raises(
        RunError,
        match="base: differs from the stage that was begun: one of its inputs has changed",
    ):
        run_here(tiny_spec, rerun=["corpus"])
    run = run_here(tiny_spec, rerun=["corpus", "base"])
    assert run.status == 0
    assert [e["stage"] for e in run.events("stage_finished")][-2:] == ["corpus", "base"]
    assert run.steps("step")[-2:] == [1, 2]


def test_rerun_starts_a_stage_anew(tiny_spec, run_here):
    """What it made before is gone; a stage made from the same input as before stays done."""
    first = run_here(tiny_spec)
    weights = first.folder / "base" / "final" / "model.safetensors"
    made = weights.stat().st_mtime_ns, weights.read_bytes()
    run = run_here(tiny_spec, rerun=["corpus"])
    assert [e["stage"] for e in run.events("stage_skipped")] == ["corpus", "base"]
    assert weights.stat().st_mtime_ns == made[0]
    run_here(tiny_spec, rerun=["base"])
    assert weights.stat().st_mtime_ns != made[0]
    assert weights.read_bytes() == made[1]


def test_an_input_that_changed_on_the_disk_is_noticed(tiny_spec, texts, tmp_path, run_here):
    """The spec is the same, the data is not: what was trained on the old is not mixed with it."""
    own = tmp_path / "own"
    own.mkdir()
    for file in sorted(texts.iterdir())[:30]:
        (own / file.name).write_bytes(file.read_bytes())
    tiny_spec["stages"]["corpus"]["prepare"]["sources"][0]["paths"] = [f"{own}/*.txt"]
    run_here(tiny_spec)
    (own / "00.txt").write_text("something else altogether")
    with pytest.raises(
        RunError,
        match=r"base: its input 'corpus' has changed since it began; start over with --rerun base",
    ):
        run_here(tiny_spec, rerun=["corpus"])
    assert run_here(tiny_spec, rerun=["base"]).status == 0


def test_a_damaged_record_of_a_stage_says_how_to_go_on(tiny_spec, run_here):
    """Started anew, it is whole again."""
    run = run_here(tiny_spec)
    (run.folder / "base" / "stage.json").write_text("{", encoding="utf-8")
    with pytest.raises(RunError, match=r"stage\.json: cannot be read .*--rerun base"):
        run_here(tiny_spec)
    assert run_here(tiny_spec, rerun=["base"]).status == 0


@pytest.mark.parametrize(
    "changed",
    [
        None,
        [],
        {},
        {"status": None},
        {"identity": None},
        {"inputs": {"corpus": 5}},
        {"summary": []},
        {"summary": {}, "status": "done"},
        {"summary": {"scores": [{}]}, "status": "done"},
        {"choices": "fast"},
    ],
)
def test_a_record_with_null_or_other_types_is_damage(finished_run, tmp_path, changed):
    """Whether its checksum is right or it has none, as one of before."""
    shutil.copytree(finished_run / "base", tmp_path / "base")
    file = tmp_path / "base" / "stage.json"
    fields = unsealed(file.read_text())
    whole = {**fields, **changed} if changed else changed
    for text in (json.dumps(whole), *([sealed(whole)] if isinstance(whole, dict) else [])):
        file.write_text(text)
        with pytest.raises(RunError, match=r"stage\.json: cannot be read .*--rerun base"):
            RunFolder(tmp_path).standing("base")


def test_a_changed_figure_of_a_stage_is_noticed(finished_run, tmp_path):
    """Scores are what a run is for; a record of before has no checksum and is read as it was."""
    shutil.copytree(finished_run / "base", tmp_path / "base")
    file = tmp_path / "base" / "stage.json"
    text, fields = file.read_text(), unsealed(file.read_text())
    file.write_text(text.replace('"steps": 6', '"steps": 7'))
    with pytest.raises(RunError, match="its checksum differs"):
        RunFolder(tmp_path).standing("base")
    file.write_text(json.dumps(fields))
    assert RunFolder(tmp_path).standing("base").summary["steps"] == 6


def test_a_corpus_written_anew_with_its_own_manifests_is_noticed(tiny_spec, run_here):
    """By the manifest of the corpus, and where that is written anew as well, by the stage's record."""
    run = run_here(tiny_spec, only="corpus")
    shards = run.folder / "corpus" / "shards" / "0"
    tokens = shards / "00000.bin"
    raw = bytearray(tokens.read_bytes())
    raw[0] ^= 1
    tokens.write_bytes(raw)
    manifest = json.loads((shards / "manifest.json").read_text())
    manifest["shards"][0]["bin_sha256"] = hashlib.sha256(raw).hexdigest()
    (shards / "manifest.json").write_text(json.dumps(manifest, indent=1))
    with pytest.raises(RunError, match=r"shards/0/\S+: damaged"):
        run_here(tiny_spec)
    (run.folder / "corpus" / "manifest.json").unlink()
    stage = (run.folder / "corpus" / "stage.json").read_bytes()
    (run.folder / "corpus" / "stage.json").unlink()
    complete(run.folder / "corpus")
    (run.folder / "corpus" / "stage.json").write_bytes(stage)
    with pytest.raises(
        RunError, match=r"corpus/manifest\.json: has changed since stage 'corpus' wrote it"
    ):
        run_here(tiny_spec)


def test_a_second_run_in_a_folder_is_refused(tmp_path):
    """With the first one's process; afterwards the folder is free, and nothing was changed."""
    folder = RunFolder(tmp_path / "run")
    with folder.locked():
        before = _contents(folder.path)
        at_work = f"another run is using this folder .process {os.getpid()}"
        with pytest.raises(RunError, match=at_work), folder.locked():
            raise AssertionError("both are in")
        assert _contents(folder.path) == before
    with folder.locked():
        pass


@pytest.mark.parametrize("place", ["file", "file/run", "x" * 300, "/proc/runs"])
def test_a_folder_that_cannot_be_made(tmp_path, place):
    """Told with its name and the option for another one."""
    (tmp_path / "file").touch()
    hint = "choose another folder with --runs"
    with pytest.raises(RunError, match=hint), RunFolder(tmp_path / place).locked():
        raise AssertionError("there is no such folder")


@pytest.mark.covers("Spec.name")
def test_the_folder_says_what_was_run(finished_run):
    """Under the run's name: the spec as written and as it became, which of its fields were given, and
    what it ran on."""
    (folder,) = (path for path in finished_run.parent.iterdir() if path.is_dir())
    assert folder.name == load_spec(finished_run / "spec.yaml").spec.name == "tiny"
    manifest = json.loads((finished_run / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["seed"] == 5
    assert manifest["world_size"] == 1
    assert manifest["plugins"]["lm"].startswith("training-engine ")
    assert {"torch", "transformers"} <= manifest["packages"].keys()
    base = manifest["given"]["stages"]["base"]["train"]
    assert base["optimizer"] == {"lr": 0.003, "type": "adamw"}  # without what has a default
    assert not {"clip", "strategy"} & base.keys()
    assert (finished_run / "spec.yaml").read_text() == (
        finished_run.parent / "tiny.yaml"
    ).read_text()


def _contents(folder) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}
