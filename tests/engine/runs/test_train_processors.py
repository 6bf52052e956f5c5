"""A train stage that reads records leaves out those that its processors drop."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from support.record_stages import ITEM, SHAPES, STEPS, texts, with_records
from support.runs import events

from engine.data import pieces
from engine.data.contents import of_examples
from engine.data.corpus import filtered_records
from engine.data.corpus.store import Store
from engine.errors import RunError
from engine.runs.finished_stage import open_stage
from engine.runs.lineage import heeded_as
from engine.runs.train_inputs import open_tokenizer, stage_data
from engine.spec.identity import changes, identity
from engine.spec.loading import load_spec

_DROPPED = {"duplicate": 2, "near-duplicate": 1, "contaminated": 1}


@pytest.fixture
def spec(tiny_spec, tmp_path):
    """See `with_records`."""
    return with_records(tiny_spec, tmp_path)


def _told(run):
    return run.events("examples", stage="tuned")[-1]


def _numbers(records):
    """Lines in the file, from 1 on."""
    return [int(record.id.rpartition(":")[2]) for record in records]


def _stage(run):
    """The stage as other commands open it."""
    return open_stage(run.folder / "tuned").run


@pytest.mark.covers("Train.processors")
@pytest.mark.parametrize("schema", SHAPES)
def test_copies_near_copies_and_items_of_benchmarks_are_left_out(schema, spec, run_here):
    """Of any kind of records; each is counted by its rule, with the first that it drops."""
    run = run_here(spec(schema))
    told = _told(run)
    assert (told["records"], told["dropped"]) == (14, _DROPPED)
    assert {rule: name.rpartition(":")[2] for rule, name in told["first_dropped"].items()} == {
        "duplicate": "11",
        "near-duplicate": "13",
        "contaminated": "14",
    }
    assert _numbers(_stage(run).context("tuned").stage_rows()) == list(range(1, 11))
    said = {one["step"]: one for one in told["processors"]}
    assert said["decontaminate"]["benchmarks"]["commonsense-qa"]["touched"] == ["0"]


def test_only_what_is_read_again_is_kept(spec, run_here):
    """The documents and what each step found of them; not what the steps brought together for that."""
    run = run_here(spec())
    names = {file.suffix for file in (run.folder / "tuned" / "records").iterdir()}
    assert names == {".json", ".parquet"}
    assert len(list((run.folder / "tuned" / "records").glob("*.parquet"))) == 1 + len(STEPS)


def test_what_is_held_out_and_what_commands_show_are_of_the_same_records(spec, run_here):
    """A dropped record is neither held out nor counted as such."""
    run = run_here(spec("preference", holdout=0.3, limit=20))
    told = _told(run)
    held = _numbers(_stage(run).held_out("tuned"))
    assert 0 < told["held_out"] == len(held)
    assert max(held) <= 10
    assert told["rows"] == 10 - len(held)
    shown = open_stage(run.folder / "tuned").training_rows(0, told["rows"])
    assert len(shown.examples) == told["rows"]


def test_a_corpus_is_kept_apart_from_what_is_held_out_of_the_records_that_stay(spec, run_here):
    """They are found before the stage begins, which then finds the same."""
    made = spec("completion", holdout=0.3)
    made["stages"]["corpus"]["prepare"]["holdout"] = 0.2
    run = run_here(made)
    held = _stage(run).held_out("tuned")
    assert run.card()["heeds"] == [heeded_as(held)]
    assert 0 < len(held) == _told(run)["held_out"]


def test_without_processors_nothing_is_written_and_no_stage_changes(spec, run_here, write_spec):
    """Not even one that was begun before there were any."""
    run = run_here(spec(processors=[]))
    assert (_told(run)["records"], _told(run)["dropped"]) == (14, {})
    assert not (run.folder / "tuned" / "records").exists()
    loaded = load_spec(write_spec(spec(processors=[]))).spec
    before = identity(loaded, "tuned")
    assert before.pop("processors") == []
    assert changes(loaded, {"tuned": before}) == {}
    other = load_spec(write_spec(spec())).spec
    assert "processors: [] → " in changes(other, {"tuned": before | {"processors": []}})["tuned"][0]


def test_a_stage_goes_on_with_the_records_that_it_began_with(spec, run_here, tmp_path, monkeypatch):
    """Also after a benchmark is added, until `--rerun`; nothing is searched again before that."""
    made = spec()
    before = _told(run_here(made))
    with monkeypatch.context() as patch:
        patch.setattr(filtered_records, "carried_out", None)
        made["stages"]["tuned"]["train"]["budget"] = "2 steps"
        items = tmp_path / "more.jsonl"
        question = texts()[0][0]
        items.write_text(json.dumps({**ITEM, "question": question}) + "\n", encoding="utf-8")
        more = {"type": "commonsense-qa", "rows": str(items), "name": "more"}
        made["stages"]["base"]["train"]["evaluate"].append(more)
        run = run_here(made)
    assert len(run.steps("loss", stage="tuned")) == 2
    assert {**_told(run), "time": 0} == {**before, "time": 0}
    again = _told(run_here(made, rerun=["tuned"]))
    assert again["dropped"] == {**_DROPPED, "contaminated": 2}


def test_a_damaged_table_is_made_again(spec, run_here):
    """And the stage goes on as it was."""
    made = spec()
    run = run_here(made)
    before = _told(run)
    for file in (run.folder / "tuned" / "records").glob("*.parquet"):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        file.write_bytes(content)
    made["stages"]["tuned"]["train"]["budget"] = "2 steps"
    again = run_here(made)
    assert {**_told(again), "time": 0} == {**before, "time": 0}
    assert len(again.steps("loss", stage="tuned")) == 2


def test_a_stage_that_is_broken_off_in_its_processors_ends_as_if_it_had_not_been(
    spec, run_here, monkeypatch
):
    """And what was found before that is found no second time."""
    made = spec()
    whole = run_here(made)
    original, write = filtered_records.carried_out, Store.write
    written = []

    def broken_off(store, parts, named, progress):
        if named.name == "decontaminate":
            raise KeyboardInterrupt
        return original(store, parts, named, progress)

    def noted(store, key, *pieces):
        written.append(key)
        write(store, key, *pieces)

    monkeypatch.setattr(Store, "write", noted)
    shutil.copytree(whole.folder, whole.folder.parents[1] / "again" / "tiny")
    with monkeypatch.context() as patch:
        patch.setattr(filtered_records, "carried_out", broken_off)
        assert run_here(made, runs="again", rerun=["tuned"]).status == 1
    before = len(written)
    run = run_here(made, runs="again")
    assert len(written) == len(set(written)) > before > len(STEPS)
    assert {**_told(run), "time": 0} == {**_told(whole), "time": 0}
    mine, other = run.weights("tuned"), whole.weights("tuned")
    assert all(mine[name].equal(other[name]) for name in other)


def test_a_record_too_long_for_a_document_is_dropped_or_stays_as_a_whole(
    spec, run_here, monkeypatch
):
    """Steps get it in pieces."""
    monkeypatch.setattr(pieces, "LONGEST", 150)
    run = run_here(spec(processors=[{"type": "exact-dedup"}, {"type": "decontaminate"}]))
    told = _told(run)
    assert (told["records"], told["dropped"]) == (14, {"duplicate": 3, "contaminated": 1})
    tables = (run.folder / "tuned" / "records").glob("*.parquet")
    assert max(pq.read_metadata(table).num_rows for table in tables) > 30
    assert _numbers(_stage(run).context("tuned").stage_rows()) == list(range(1, 11))


def test_records_that_have_changed_since_are_not_taken_for_others(spec, run_here, tmp_path):
    """A rule that was found for one record is not applied to another one."""
    run = run_here(spec())
    file = tmp_path / "records.jsonl"
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    stage = _stage(run).context("tuned")
    file.write_text("".join(lines[1:]), encoding="utf-8")
    with pytest.raises(RunError, match="has changed since the stage's processors read it"):
        list(stage.stage_rows())
    file.write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(RunError, match="it has changed since"):
        list(stage.stage_rows())


def test_two_ranks_train_on_the_same_records(spec, write_spec, run_here, warm, tmp_path):
    """Which are those of one process: rank 0 alone searches, while the others wait."""
    made = spec("preference", holdout=0.2)
    alone = run_here(made)
    folder = shutil.copytree(alone.folder, tmp_path / "two" / "tiny")
    for name in ("base", "tuned"):
        made["stages"][name]["train"]["strategy"] = "ddp"
    options = ("--stage", "tuned", "--rerun", "tuned", "--runs", tmp_path / "two")
    script = Path(__file__).with_name("noted_digests.py")
    warm.ranks(2, [script, tmp_path, "run", write_spec(made), *options])
    assert {**events(folder, "examples", stage="tuned")[-1], "time": 0} == {
        **_told(alone),
        "time": 0,
    }
    one, other = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    run = _stage(alone)
    config = run.spec.stages["tuned"].train
    data, _ = stage_data(run, "tuned", config, open_tokenizer(run, "tuned", config))
    assert one["its data"] == other["its data"] == of_examples(data.examples())
