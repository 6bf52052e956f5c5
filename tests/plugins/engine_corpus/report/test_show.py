"""The card of a corpus, shown in the terminal and as a page."""

from __future__ import annotations

import json
import shutil
from html.parser import HTMLParser

import pyarrow.parquet as pq
import pytest
from engine_corpus.report.page import page
from engine_corpus.report.waterfall import bad_rows, waterfall

from engine import SpecError
from engine.testing import run_spec

_EVIL = "</title><script>alert(1)</script>"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A prepared corpus of which steps have dropped, cut and held out documents."""
    place = tmp_path_factory.mktemp("shown")
    words = [f"word{number}" for number in range(200)]
    texts = [" ".join(words[n : n + 80]) for n in range(0, 100, 10)] + ["short", "short"]
    rows = [json.dumps({"text": text}) for text in texts]
    (place / "all.jsonl").write_text("\n".join([*rows, '{"text": 5}']))
    spec = {
        "engine": 1,
        "name": "shown",
        "stages": {
            "corpus": {
                "prepare": {
                    "sources": [{"type": "files", "paths": [f"{place}/all.jsonl"]}],
                    "processors": [
                        {"type": "gopher", "drop": False},
                        {"type": "language"},
                        {"type": "exact-dedup"},
                        {"type": "near-dedup"},
                        {"type": "substring-dedup", "words": 40},
                    ],
                    "tokenizer": {"type": "bytes"},
                    "executor": {"type": "local", "processes": 0},
                    "holdout": 0.2,
                }
            }
        },
    }
    (place / "spec.yaml").write_text(json.dumps(spec))
    return run_spec(place / "spec.yaml", place / "runs").folder / "corpus"


def test_the_numbers_add_up_to_what_is_kept(folder):
    """Documents and bytes."""
    card = json.loads((folder / "card.json").read_text())
    *rows, kept = waterfall(card)
    assert rows[0].documents == 12
    assert sum(row.documents for row in rows) == kept.documents == card["sources"][0]["documents"]
    assert sum(row.bytes for row in rows) == kept.bytes == card["sources"][0]["bytes"]
    assert {row.step for row in rows} >= {"exact-dedup", "substring-dedup", "held out"}
    assert bad_rows(card["sources"][0]) == {"wrong-type": 1}


def test_the_command_shows_it_in_80_columns(folder, engine, tmp_path):
    """And writes a page, or the card for machines."""
    told = engine("corpus", "show", folder, "--html", tmp_path / "card.html", env={"COLUMNS": "80"})
    lines = told.stdout.splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.split() == ["exact-dedup", "duplicate", "-1", "−5", "B"] for line in lines)
    assert "<svg" in (tmp_path / "card.html").read_text()
    card = json.loads((folder / "card.json").read_text())
    assert json.loads(engine("corpus", "show", folder, "--json").stdout) == card


def test_the_page_stands_alone_and_shows_names_as_text(folder):
    """It has no script, and refers to nothing outside it."""
    card = json.loads((folder / "card.json").read_text())
    card["sources"][0]["source"] = _EVIL
    card["processors"][0]["step"] = _EVIL
    tags, addresses = set(), []

    class Reader(HTMLParser):
        def handle_starttag(self, tag, attrs):
            tags.add(tag)
            addresses.extend(value for name, value in attrs if name in ("src", "href"))

    made = page(_EVIL, card)
    Reader().feed(made)
    assert "svg" in tags
    assert not tags & {"script", "link", "img", "iframe"}
    assert not addresses
    assert made.count("<svg") >= 4, "a waterfall, languages, histograms and the curve"


_OLD = '{"sources": [{"source": "old"}]}'
_STRANGE = '{"sources": [{"source": "x", "account": 3}]}'


@pytest.mark.parametrize("content", [None, "{", "[1]", _OLD, _STRANGE])
def test_a_folder_without_such_a_card_is_told(content, tmp_path):
    """With what to name or to do."""
    from engine_corpus.report.show import show

    if content is not None:
        (tmp_path / "card.json").write_text(content)
    with pytest.raises(SpecError, match=r"not a prepared corpus|prepared before there was one"):
        show(tmp_path, None, 0, False)


def test_a_page_is_written_beside_the_card_and_is_no_part_of_what_was_prepared(folder):
    """So that the folder still counts as whole."""
    assert "samples of what was dropped" in (folder / "card.html").read_text().casefold()
    assert "card.html" not in json.loads((folder / "manifest.json").read_text())["files"]


def test_why_tells_the_whole_way_of_a_document(folder, engine, tmp_path):
    """Of one that was kept and cut, one that a rule dropped, and one that there is not."""
    card = json.loads((folder / "card.json").read_text())
    (fell,) = (rule for rule in card["samples"] if rule["rule"] == "duplicate")
    (dropped,) = json.loads(
        engine("corpus", "why", folder, fell["documents"][0]["id"], "--json").stdout
    )
    assert dropped["outcome"] == "dropped"
    assert dropped["text"] == "short"
    assert [step["step"] for step in dropped["steps"]] == ["gopher", "language", "exact-dedup"]
    assert dropped["steps"][0]["found"]["gopher_words"] == 1
    assert dropped["steps"][-1]["rule"] == "duplicate"
    kept = pq.read_table(folder / "shards" / "0" / "documents.parquet").column("id").to_pylist()
    told = engine("corpus", "why", folder, kept[-1], env={"COLUMNS": "80"}).stdout
    assert max(map(len, told.splitlines())) <= 80
    assert "kept" in told.splitlines()[0]
    assert "near_banding" in told
    assert "_held" not in told
    (line,) = (folder / "holdout.jsonl").read_text().splitlines()[:1]
    aside = engine("corpus", "why", folder, json.loads(line)["id"], "--json").stdout
    assert json.loads(aside)[0]["outcome"] == "held out"
    for name in ("nobody", "caf\udce9"):  # as a name of a file that is not UTF-8
        missing = engine("corpus", "why", folder, name, status=2).stderr
        assert f"no document has the id '{name[:3]}" in missing
    missing = engine("corpus", "why", tmp_path, "nobody", status=1).stderr
    assert "is not a finished prepare stage (provenance.json: No such file" in missing


def test_cleaning_keeps_what_training_reads_and_ends_why(folder, engine, tmp_path):
    """And a run goes on as if nothing had happened."""
    run = tmp_path / "shown"
    shutil.copytree(folder.parent, run)
    told = engine("corpus", "clean", run / "corpus").stdout
    assert "freed" in told
    assert not list((run / ".work").rglob("*.parquet"))
    assert engine("corpus", "show", run / "corpus", "--json").stdout
    gone = engine("corpus", "why", run / "corpus", "any", status=1).stderr
    assert "--rerun STAGE" in gone


def test_cleaning_follows_no_link(folder, engine, tmp_path):
    """As a run's folder may come from somebody else."""
    run, aside = tmp_path / "shown", tmp_path / "aside"
    (aside / "corpus").mkdir(parents=True)
    (aside / "corpus" / "letter.txt").write_text("mine")
    shutil.copytree(folder.parent, run)
    shutil.rmtree(run / ".work" / "corpus")
    (run / ".work" / "corpus").symlink_to(aside / "corpus")
    assert "is a link" in engine("corpus", "clean", run / "corpus", status=1).stderr
    (run / ".work" / "corpus").unlink()
    (run / ".work").rmdir()
    (run / ".work").symlink_to(aside)
    assert "is a link" in engine("corpus", "clean", run / "corpus", status=1).stderr
    assert (aside / "corpus" / "letter.txt").is_file()


def test_trying_shows_what_the_steps_would_do_and_keeps_nothing(folder, engine, tmp_path):
    """To a sample, from the spec alone; on the whole corpus it is what the run has done."""
    spec = folder.parents[2] / "spec.yaml"
    before = sorted(tmp_path.rglob("*"))
    tried = json.loads(engine("corpus", "try", spec, "--json").stdout)
    card = json.loads((folder / "card.json").read_text())
    assert tried["sources"][0]["account"] == card["sources"][0]["account"]
    assert tried["samples"] == card["samples"]
    told = engine("corpus", "try", spec, "--documents", 2, env={"COLUMNS": "80"}).stdout
    assert max(map(len, told.splitlines())) <= 80
    assert told.splitlines()[1].split()[:2] == ["read", "2"]
    refused = engine("corpus", "try", spec, "--stage", "base", status=2).stderr
    assert "prepare stages of the spec: corpus" in refused
    assert sorted(tmp_path.rglob("*")) == before
