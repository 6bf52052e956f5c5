"""Documents that are similar to those of corpora that were prepared before."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from pydoc_data.topics import topics

import pytest
import yaml
from engine_corpus.deduplicate.near import older
from engine_corpus.deduplicate.near.config import NearDedup
from engine_corpus.deduplicate.near.signatures import band_hashes

from engine import RunError
from engine.testing import run_spec

PAGES = {name: topics[name] for name in ("assert", "while", "import", "global", "del", "pass")}


def _prepared(folder: Path, end: str, *processors: dict[str, object]) -> str:
    """A corpus of the pages, with an end of their own, in two sources."""
    sources = []
    for name, number in (("even", 0), ("odd", 1)):
        file = folder / f"{name}.jsonl"
        pages = list(PAGES.values())[number::2]
        file.write_text("".join(json.dumps({"text": page + end}) + "\n" for page in pages))
        sources.append({"type": "files", "paths": [str(file)], "weight": 0.5})
    prepare = {
        "sources": sources,
        "processors": list(processors),
        "tokenizer": {"type": "bytes"},
        "holdout": 0,
    }
    stages = {"corpus": {"prepare": prepare}}
    spec = folder / "spec.yaml"
    spec.write_text(yaml.safe_dump({"engine": 1, "name": "older", "stages": stages}))
    run_spec(spec, folder / "runs")
    return str(folder / "runs" / "older" / "corpus")


@pytest.fixture(scope="module")
def with_bands(tmp_path_factory):
    """A corpus that was deduplicated."""
    return _prepared(tmp_path_factory.mktemp("with"), "", {"type": "near-dedup"})


@pytest.fixture(scope="module")
def without_bands(tmp_path_factory):
    """A corpus that was not."""
    return _prepared(tmp_path_factory.mktemp("without"), " And more.")


def _new() -> list[dict[str, object]]:
    """An edited copy and a copy of older pages, of which one is the more important, and a new page."""
    return [
        {"id": "edited", "text": PAGES["assert"] + " And more.", "priority": 9},
        {"id": "same", "text": PAGES["while"], "priority": 1},
        {"id": "same again", "text": PAGES["while"], "priority": 1},
        {"id": "new", "text": topics["lambda"], "priority": 1},
    ]


@pytest.mark.covers("processor/near-dedup.against")
@pytest.mark.parametrize(
    ("corpus", "equal", "similar"),
    [("with_bands", "same", "edited"), ("without_bands", "edited", "same")],
)
def test_what_is_similar_to_an_older_document_falls(decided, request, corpus, equal, similar):
    """Whatever its priority, and with keepers that are named with their corpus."""
    folder = request.getfixturevalue(corpus)
    for parts in (1, 3):
        found = decided(_new(), parts=parts, against=[folder])
        assert set(found) == {"edited", "same", "same again"}
        assert found["edited"][0] == _named(folder, "assert")
        assert found["same"] == found["same again"]
        assert found["same"][0] == _named(folder, "while")
        assert found[equal][1] == 1
        assert 0.8 <= found[similar][1] < 1


def test_bands_that_are_kept_are_not_computed_again(
    decided, with_bands, without_bands, monkeypatch
):
    """And those of other settings are."""
    wanted = decided(_new(), against=[with_bands])
    computed = []
    monkeypatch.setattr(
        older, "band_hashes", lambda *given: computed.append(given) or band_hashes(*given)
    )
    assert decided(_new(), against=[with_bands]) == wanted
    assert not computed
    assert decided(_new(), against=[with_bands], permutations=96).keys() == wanted.keys()
    assert computed
    computed.clear()
    assert decided(_new(), against=[without_bands]).keys() == wanted.keys()
    assert computed


def test_of_several_older_corpora_each_counts(decided, with_bands, without_bands):
    """The most similar document of all is the keeper."""
    for folders in ([with_bands, without_bands], [without_bands, with_bands]):
        found = decided(_new(), parts=2, against=folders)
        assert found["edited"] == (_named(without_bands, "assert"), 1)
        assert found["same"] == found["same again"] == (_named(with_bands, "while"), 1)


def test_older_documents_change_nothing_among_the_new(decided, with_bands):
    """Of new copies without an older one the first stays."""
    rows = [*_new(), {"id": "new too", "text": topics["lambda"], "priority": 1}]
    found = decided(rows, against=[with_bands])
    assert found.pop("new too") == ("new", 1.0)
    assert found == decided(_new(), against=[with_bands])


def test_a_folder_that_is_no_prepared_corpus_is_named(decided, with_bands, tmp_path):
    """Before anything runs, and where one was damaged since."""
    assert str(tmp_path) in NearDedup(against=[str(tmp_path)]).problems()["against"]
    assert not NearDedup(against=[with_bands]).problems()
    assert list(NearDedup(against=[with_bands]).reads()) == [with_bands]
    damaged = tmp_path / "corpus"
    shutil.copytree(with_bands, damaged)
    (damaged / "shards" / "0" / "00000.idx").unlink()
    with pytest.raises(RunError, match="shards/0: damaged"):
        decided(_new(), against=[str(damaged)])
    documents = damaged / "shards" / "0" / "documents.parquet"
    content = bytearray(documents.read_bytes())
    content[len(content) // 2] ^= 1
    documents.write_bytes(content)
    with pytest.raises(RunError, match=r"documents\.parquet: damaged \(its checksum differs\)"):
        decided(_new(), against=[str(damaged)])
    documents.unlink()
    with pytest.raises(RunError, match=r"documents\.parquet: damaged"):
        decided(_new(), against=[str(damaged)])
    (damaged / "manifest.json").unlink()
    with pytest.raises(RunError, match="not a prepared corpus"):
        decided(_new(), against=[str(damaged)])


def _named(folder: str, page: str) -> str:
    """A page in the older corpus, whose ids are lines of a file."""
    number = list(PAGES).index(page)
    file = Path(folder).parents[2] / ("odd.jsonl" if number % 2 else "even.jsonl")
    return f"{folder}:{file}:{number // 2 + 1}"
