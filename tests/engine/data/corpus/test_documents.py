"""What training gets of the sources, what is held out, and what is dropped."""

from __future__ import annotations

from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from engine_data.config import ExactDedup
from engine_data.exact_dedup import build as build_exact_dedup

from engine.contracts.records import Chat, Completion, Text
from engine.data.corpus.each import each
from engine.data.corpus.prepare import trained_texts
from engine.errors import RunError


def test_held_out_documents_come_back_whole(new_corpus, document):
    """With all their fields, as evaluators want them; the rest is trained on."""
    records = [document(f"text {i}", license="MIT", group=f"g{i}") for i in range(40)]
    corpus = new_corpus()
    card = corpus.prepare(records, holdout=0.5)
    aside = corpus.held_out()
    texts = [*corpus.trained_on(), *(record.text for record in aside)]
    assert sorted(texts) == sorted(record.text for record in records)
    assert all(record in records for record in aside)
    assert card["holdout"]["documents"] == card["sources"][0]["held_out"] == len(aside)
    assert card["holdout"]["bytes"] == sum(len(record.text.encode()) for record in aside)


def test_the_card_says_what_compressors_make_of_the_held_out_text(new_corpus):
    """In bits per byte, so that a model's score can be read against them."""
    texts = [f"{i} and over again" * 30 for i in range(80)]
    card = new_corpus().prepare(texts, holdout=0.5)["holdout"]
    assert 0 < card["xz_bits_per_byte"] < 1
    assert 0 < card["gzip_bits_per_byte"] < 1


@pytest.mark.parametrize(("seed", "share"), [(0, 0.05), (2**63 - 1, 0.6)])
def test_a_side_depends_on_text_seed_and_share_alone(new_corpus, seed, share):
    """Not on what is read before it; and a larger share holds out more, never others."""
    texts = [f"document {i}" for i in range(400)]

    def aside(*sources, share=share, seed=seed):
        corpus = new_corpus()
        corpus.prepare(*sources, holdout=share, seed=seed)
        return {record.text for record in corpus.held_out()}

    first = aside(texts)
    assert abs(len(first) - 400 * share) < 3 * (400 * share * (1 - share)) ** 0.5
    assert aside(["new", *reversed(texts)]) - {"new"} == first
    assert aside(texts[:200], texts[200:]) == first
    assert first < aside(texts, share=0.9)
    assert first != aside(texts, seed=1)
    assert not aside(texts, share=0)


def test_a_copy_is_on_the_side_of_its_original(new_corpus):
    """Without a rule against duplicates, too."""
    texts = [f"document {i}" for i in range(50)]
    corpus = new_corpus()
    corpus.prepare(texts, [*reversed(texts)], holdout=0.5)
    aside = [record.text for record in corpus.held_out()]
    assert len(aside) == 2 * len(set(aside)) > 0
    assert not set(aside) & {*corpus.trained_on(0), *corpus.trained_on(1)}


def test_a_group_stays_together_and_no_copy_of_it_is_trained_on(new_corpus, document):
    """A group is held out as a whole; a copy elsewhere, read before or after it, is dropped."""
    grouped = [document(f"{g} says {i}", group=f"g{g}") for g in range(30) for i in range(3)]
    copies = [document(f"{g} says 0") for g in range(30)]
    corpus = new_corpus()
    card = corpus.prepare(copies, grouped, copies, holdout=0.4)
    held = [record for record in corpus.held_out() if record.meta]
    groups = {record.meta["group"] for record in held}
    assert held == [record for record in grouped if record.meta["group"] in groups]
    assert 0 < len(groups) < 30
    aside = {record.text for record in corpus.held_out()}
    for source, counts in enumerate(card["sources"]):
        trained = corpus.trained_on(source)
        assert not aside & set(trained)
        dropped = counts["dropped"]["held-out-elsewhere"]
        assert counts["documents"] == len(trained) == counts["read"] - counts["held_out"] - dropped


def test_the_card_counts_what_each_rule_dropped(new_corpus):
    """A rule is what a processor names; the core has three more of its own."""

    def capitals(document):
        return (
            "digits" if document.text.isdigit() else replace(document, text=document.text.upper())
        )

    texts = ["a", "1", "A", "", "b\ud800", "22", "b", "a", "\0"]
    corpus = new_corpus()
    processors = [each(capitals), build_exact_dedup(ExactDedup(), None)]
    card = corpus.prepare(texts, processors=processors)["sources"][0]
    bad = {"lone-surrogate": 1, "nul": 1}
    assert card["dropped"] == {"digits": 2, "duplicate": 2, "empty": 1, **bad}
    assert card["bad_rows"] == ["id of 'b\\ud800' lone-surrogate", "id of '\\x00' nul"]
    assert sorted(corpus.trained_on()) == ["A", "B"]


def test_the_shards_have_a_table_of_their_documents(new_corpus, document):
    """In their order, with licences, tokens and what processors told; also where some told nothing."""

    def told(found):
        return {"length": len(found.text)} if found.text != "b" else found

    corpus = new_corpus()
    corpus.prepare(["b"], ["aa", document("ccc", license="MIT"), "b"], processors=[each(told)])
    found = pq.read_table(corpus.folder / "shards" / "1" / "documents.parquet").to_pylist()
    assert [row["id"] for row in found] == [f"id of '{text}'" for text in corpus.trained_on(1)]
    assert {(row["id"], row["license"], row["length"], row["tokens"]) for row in found} == {
        ("id of 'aa'", None, 2, 2),
        ("id of 'ccc'", "MIT", 3, 3),
        ("id of 'b'", None, None, 1),
    }
    (only,) = pq.read_table(corpus.folder / "shards" / "0" / "documents.parquet").to_pylist()
    assert (only["source"], only["tokens"]) == ("test", 1)


def test_a_file_s_name_need_not_be_utf_8(new_corpus):
    """It identifies the document all the same."""
    corpus = new_corpus()
    corpus.prepare(
        [Text(id="a\udcff.txt", source="a\udcff.txt", text=str(i)) for i in range(9)], holdout=0.5
    )
    assert {record.id for record in corpus.held_out()} == {"a\\udcff.txt"}


def test_records_that_are_no_documents_are_an_error(new_corpus):
    """They have a place in a spec, but not here."""
    chat = Chat(id="c:1", source="c", messages=[])
    told = "record 'c:1' of 'c' is chat, but prepare takes text; give such records to a train"
    with pytest.raises(RunError, match=told):
        new_corpus().prepare([chat])


def test_texts_that_answer_what_a_later_stage_holds_out_are_dropped(new_corpus):
    """They are counted, and the card says whose held-out records were heeded."""
    held = [Completion(id="1", source="s", prompt="Code of locker 3?", completion="It is 122.")]
    texts = ["Code of locker 3?\nIt is 122.", "Code of locker 3? It is 12.", "It is 122."]
    corpus = new_corpus()
    card = corpus.prepare(texts, elsewhere={"aside": held})
    assert corpus.trained_on() == texts[1:]
    assert card["sources"][0]["dropped"] == {"answers-what-is-held-out": 1}
    assert card["heeds"] == ["aside"]
    assert list(trained_texts(corpus.folder)) == texts[1:]
