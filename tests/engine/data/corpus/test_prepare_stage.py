"""A prepare stage: what its fields say, what a kill leaves, and what damage does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from engine.data.corpus import columns
from engine.data.shards import read_manifest
from engine.errors import RunError
from engine.processes.process import Process
from engine.runs.session import run_spec
from engine.spec.loading import load_spec
from engine.storage import manifest


@pytest.fixture
def corpus(tiny_spec):
    """The prepare stage's part of the tiny spec, which has no other stage here."""
    del tiny_spec["stages"]["base"]
    return tiny_spec["stages"]["corpus"]["prepare"]


@pytest.fixture
def prepare_here(tiny_spec, write_spec, tmp_path, capsys):
    """Runs the spec as it now is; gives the prepared folder and its card."""

    def prepare(name: str = "runs", **options):
        loaded = load_spec(write_spec(tiny_spec))
        run_spec(loaded, tmp_path / name, Process(), as_json=True, **options)
        capsys.readouterr()
        folder = tmp_path / name / "tiny" / "corpus"
        return folder, json.loads((folder / "card.json").read_text(encoding="utf-8"))

    return prepare


@pytest.fixture
def notes(tmp_path):
    """A glob of JSON lines: a long one twice, and a short one twice."""
    (tmp_path / "notes").mkdir()
    rows = [{"text": text} for text in ("long " * 9, "short", "long " * 9, "short")]
    lines = "\n".join(json.dumps(row) for row in rows)
    (tmp_path / "notes" / "all.jsonl").write_text(lines, encoding="utf-8")
    return f"{tmp_path}/notes/*.jsonl"


@pytest.mark.covers("Prepare.sources")
def test_every_source_of_the_spec_is_read(corpus, texts, notes, prepare_here):
    """In the spec's order, each into shards of its own, named by its type."""
    corpus["sources"].append({"type": "files", "paths": [notes]})
    corpus["holdout"] = 0
    folder, card = prepare_here()
    found = [(source["source"], source["documents"]) for source in card["sources"]]
    assert found == [("files-0", 60), ("files-1", 4)]
    assert [read_manifest(folder / "shards" / str(i)).documents for i in (0, 1)] == [60, 4]


@pytest.mark.covers("Prepare.processors")
def test_records_pass_the_processors_in_their_order(corpus, notes, prepare_here):
    """What the first drops, the second never sees."""
    corpus |= {"sources": [{"type": "files", "paths": [notes]}], "holdout": 0}
    length, dedup = {"type": "length", "max": 20}, {"type": "exact-dedup"}
    dropped = {}
    for name, processors in {"a": [length, dedup], "b": [dedup, length]}.items():
        corpus["processors"] = processors
        _, card = prepare_here(name)
        dropped[name] = card["sources"][0]["dropped"]
    assert dropped == {
        "a": {"too-long": 2, "duplicate": 1},
        "b": {"too-long": 1, "duplicate": 2},
    }


@pytest.mark.covers("Prepare.tokenizer")
def test_the_stage_has_the_tokenizer_of_the_spec(corpus, prepare_here):
    """Its size is in the card, and its width in the shards."""
    assert prepare_here("a")[1]["vocabulary"] == 300
    corpus["tokenizer"] = {"type": "bytes"}
    assert prepare_here("b")[1]["vocabulary"] == 258


@pytest.mark.covers("Prepare.holdout")
def test_the_share_that_is_held_out_is_the_spec_s(corpus, prepare_here):
    """In percent or as a number; none where it is 0."""
    corpus["tokenizer"] = {"type": "bytes"}
    counts = []
    for share in (0, "10%", 0.5):
        corpus["holdout"] = share
        _, card = prepare_here(f"runs-{share}")
        assert card["holdout"]["documents"] + card["sources"][0]["documents"] == 60
        counts.append(card["holdout"]["documents"])
    assert counts[0] == 0 < counts[1] < 15 < counts[2] < 45


@pytest.mark.covers("Prepare.executor", "Prepare.seconds_per_document")
def test_documents_are_prepared_by_the_executor_of_the_spec_within_its_limit(
    corpus, prepare_here, monkeypatch
):
    """And to the same files as in this process."""
    corpus["tokenizer"] = {"type": "bytes"}
    expected = _prepared(manifest.checksums(prepare_here("here")[0]))
    corpus["executor"] = {"type": "local", "processes": 1}
    corpus["seconds_per_document"] = 7.5
    limits = []
    original = columns._Mapped.__init__
    monkeypatch.setattr(
        columns._Mapped, "__init__", lambda *a: limits.append(a[-1]) or original(*a)
    )
    assert _prepared(manifest.checksums(prepare_here("by-a-worker")[0])) == expected
    assert set(limits) == {7.5}


def test_a_killed_preparation_leaves_nothing_that_counts(
    corpus, texts, tiny_spec, write_spec, tmp_path, prepare_here, warm
):
    """Wherever SIGKILL comes; run again, the stage is what it would have been, to the last bit,
    also in another process."""
    corpus["sources"] = [
        {"type": "files", "paths": [f"{texts}/[0-2]*.txt"]},
        {"type": "files", "paths": [f"{texts}/[3-5]*.txt"]},
    ]
    corpus["processors"] = [{"type": "exact-dedup"}]
    whole, _ = prepare_here("whole")
    expected = _prepared(manifest.checksums(whole))
    assert {"shards/0/00000.bin", "shards/1/manifest.json", "holdout.jsonl"} < expected.keys()
    script = Path(__file__).with_name("killed_prepares.py")
    done = warm.run([script, write_spec(tiny_spec), tmp_path / "killed"])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert len(found) == 19
    for point, standing in found.items():
        assert not standing["done"], point
        assert standing["whole"] == (point in {"after the rename", "before it is recorded as done"})
        assert _prepared(standing["files"]) == expected, point
        assert not [name for name in standing["names"] if "partial" in name], point


def _prepared(files: dict[str, str]) -> dict[str, str]:
    """All but the stage's record, which says how long it took."""
    return {name: sha256 for name, sha256 in files.items() if name != "stage.json"}


@pytest.mark.parametrize(
    "file",
    ["shards/0/00000.bin", "shards/0/00000.idx", "holdout.jsonl", "tokenizer/tokenizer.json"],
)
def test_a_flipped_byte_is_named_by_the_next_run_that_reads_it(
    tiny_spec, finished_run, tmp_path, run_here, file
):
    """Checksums are compared when a train stage opens its data, and before held-out documents are
    scored. Prepared anew, the data is the same, and training goes on where it was."""
    shutil.copytree(finished_run, tmp_path / "runs" / "tiny")
    damaged = tmp_path / "runs" / "tiny" / "corpus" / file
    content = bytearray(damaged.read_bytes())
    content[len(content) // 2] ^= 1
    damaged.write_bytes(content)
    tiny_spec["stages"]["base"]["train"]["budget"] = "7 steps"
    with pytest.raises(RunError, match=rf"corpus/{file}: damaged \(its checksum differs\)"):
        run_here(tiny_spec)
    steps = run_here(tiny_spec, rerun={"corpus"}).steps("step")
    assert steps[:7] == list(range(1, 8))
    assert steps[7:] in ([], [7])  # a step before the damage was met, and again


def test_a_rerun_makes_again_only_what_depends_on_what_has_changed(corpus, prepare_here, tmp_path):
    """On the settings of a step, and on the content of a file that a step reads."""
    words = tmp_path / "words.txt"
    words.write_text("unheard-of\n")
    keep = {"type": "select", "keep": {"gopher_words": ">= 1"}}
    listed = {"type": "word-list", "path": str(words)}
    corpus["processors"] = [listed, {"type": "gopher", "drop": False}, keep]
    folder, _ = prepare_here()
    work = tmp_path / "runs" / "tiny" / ".work" / "corpus"

    def made():
        return {file.name: file.stat().st_mtime_ns for file in work.glob("*.parquet")}

    before = made()
    keep["keep"] = {"gopher_words": ">= 2"}
    prepare_here(rerun=("corpus",))
    after = made()
    assert before.items() <= after.items()
    (documents,) = (one["documents"] for one in _parts(folder))
    assert documents + ".parquet" in before
    text = pq.read_table(work / f"{documents}.parquet").column("text")[0].as_py()
    words.write_text(text.split()[0] + "\n")
    _, card = prepare_here(rerun=("corpus",))
    assert card["sources"][0]["dropped"]["word-list"] > 0
    assert after.items() <= made().items()


def _parts(folder):
    return json.loads((folder / "provenance.json").read_text())["parts"]
