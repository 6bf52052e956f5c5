"""From sources to shards, a tokenizer and a card: the whole folder or nothing."""

from __future__ import annotations

import json
import resource
from functools import partial
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pytest
from engine_data.config import BPE, Bytes
from engine_data.tokenizers import END, PAD, build_bpe, build_bytes
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from engine.contracts.data import CorpusStep, DataSource, Processor
from engine.data.corpus import sharding
from engine.data.corpus.each import each
from engine.data.shards import ShardWriter, read_manifest
from engine.errors import RunError

_HARD = ["", " \n", "x", "\ufeffwith a mark", "two\r\nlines\r", "naïve 東京 🙂\u2028", "\x01", END]
_TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=60)


def _small_shards(tokens: int):
    return patch.object(sharding, "ShardWriter", partial(ShardWriter, shard_tokens=tokens))


@given(st.lists(st.sampled_from(_HARD) | _TEXT, min_size=1), st.integers(1, 80))
@settings(max_examples=15, deadline=None)
def test_documents_come_back_from_the_shards(new_corpus, texts, shard_tokens):
    """All of them, whole, whatever their length and characters; but empty ones."""
    corpus = new_corpus()
    with _small_shards(shard_tokens):
        card = corpus.prepare(["first", *texts])["sources"][0]
    kept = ["first", *(text for text in texts if text.strip())]
    assert sorted(corpus.trained_on()) == sorted(kept)
    assert (card["read"], card["documents"]) == (1 + len(texts), len(kept))
    assert card["dropped"].get("empty", 0) == 1 + len(texts) - len(kept)
    assert card["bytes"] == sum(len(text.encode()) for text in kept)
    assert card["tokens"] == card["bytes"] + len(kept)


def test_a_document_longer_than_a_shard_stays_in_one(new_corpus):
    """A shard ends between documents, so that no document is cut."""
    corpus = new_corpus()
    with _small_shards(10):
        corpus.prepare(["a" * 95, "b", "c" * 30])
    shards = read_manifest(corpus.folder / "shards" / "0").shards
    assert corpus.trained_on() == ["b", "c" * 30, "a" * 95]
    assert [(shard.tokens, shard.documents) for shard in shards] == [(33, 2), (96, 1)]


@pytest.mark.parametrize("trainer", [build_bytes(Bytes(), None), build_bpe(BPE(), None)])
def test_a_document_that_spells_a_special_token_does_not_end(new_corpus, trainer):
    """Only the engine ends documents."""
    corpus = new_corpus()
    corpus.prepare([f"a{END}b", PAD, "c", "more text to merge, more text"], trainer=trainer)
    documents = corpus.tokens()
    assert [document[0] for document in documents] == [0] * 4
    assert all(token > 1 for document in documents for token in document[1:])


@pytest.mark.parametrize(
    ("bos", "expected", "boundary_target"),
    [(PAD, [1, 67, 0], False), (END, [0, 67], True), (None, [0, 67], True)],
)
def test_documents_are_marked_as_their_tokenizer_does(new_corpus, bos, expected, boundary_target):
    """One mark that both ends and begins, or two; then a beginning is no target of the end."""

    def trainer(texts):
        tokenizer = build_bytes(Bytes(), None)(texts)
        tokenizer.bos_token = bos
        return tokenizer

    corpus = new_corpus()
    corpus.prepare(["b", "b"], trainer=trainer)
    assert corpus.tokens() == [expected, expected]
    manifest = read_manifest(corpus.folder / "shards" / "0")
    assert (manifest.boundary_target, manifest.eos_id) == (boundary_target, 0)


def test_sources_keep_their_shards_and_cards_apart(new_corpus, document):
    """The mixture takes from each by its weight; the tokenizer is trained on all of them."""
    seen = []

    def trainer(texts):
        seen.extend([list(texts), list(texts)])
        return build_bytes(Bytes(), None)(texts)

    corpus = new_corpus()
    card = corpus.prepare(["a", "b"], [document("c", license="MIT"), "d"], trainer=trainer)
    assert sorted(corpus.trained_on(0)) == ["a", "b"]
    assert sorted(corpus.trained_on(1)) == ["c", "d"]
    assert seen == [["a", "b", "c", "d"]] * 2
    assert [source["source"] for source in card["sources"]] == ["source-0", "source-1"]
    assert card["sources"][0]["licenses"] == {"unknown": 2}
    assert card["sources"][1]["licenses"] == {"MIT": 1, "unknown": 1}
    assert card["vocabulary"] == 258
    assert json.loads((corpus.folder / "card.json").read_text()) == card


def test_every_bar_ends(new_corpus):
    """One that did not would stand below the others for good. None goes back, or beyond its end;
    each time that a tokenizer reads the texts is a bar of its own, also where it soon has enough."""
    told: dict[str, list[float]] = {}

    def progress(what, done, total, note):
        told.setdefault(what, []).append(done / total)

    bpe = build_bpe(BPE(vocab_size=300, sample_mb=1), None)

    def learns(texts):
        next(iter(texts))
        return bpe(texts)

    new_corpus().prepare([str(i) for i in range(600)], ["b"], trainer=learns, progress=progress)
    read = {f"read for tokens, {number}" for number in (1, 2, 3)}
    verbs = {f"tokenize source-{source}, {number}" for source in (0, 1) for number in (1, 2, 3)}
    assert told.keys() == {"read", *read, *verbs, "write source-0", "write source-1"}
    assert all(shares == sorted(shares) for shares in told.values())
    assert {shares[-1] for shares in told.values()} == {1}


class _Failing(DataSource):
    """A source that fails."""

    def records(self, part):
        raise KeyError("x")


class _Wrong(DataSource):
    """A source that gives something else."""

    def records(self, part):
        yield {"text": "a row"}


def _failing(document):
    raise ZeroDivisionError("nought")


def _wrong(document):
    return None


def _dropped_by(documents):
    return documents.select(["part", "row"]).append_column("drop", pa.array([True]))


class _Columns(Processor):
    """A processor that gives these columns."""

    def __init__(self, **columns):
        self._columns = columns

    def columns(self, batch):
        return self._columns


class _Step(CorpusStep):
    """A step that calls a function with the corpus."""

    def __init__(self, function):
        self.run = function


def _no_end(texts):
    tokenizer = build_bytes(Bytes(), None)(texts)
    tokenizer.eos_token = None
    return tokenizer


def _holes(texts):
    words = Tokenizer(models.WordLevel({END: 0, "a": 300}, unk_token=END))
    return PreTrainedTokenizerFast(tokenizer_object=words, eos_token=END, bos_token=END)


def _untrained(texts):
    raise OverflowError("too much")


@pytest.mark.parametrize(
    ("source", "options", "told"),
    [
        (_Failing(), {}, r"source 'source-0' failed: KeyError: 'x' \(test_prepare\.py:\d+\)"),
        (_Wrong(), {}, r"source 'source-0' failed: TypeError: it yielded \{'text'"),
        ([], {}, r"source 'source-0' gave no document to train on: 0 read.*check its paths"),
        ([" "], {}, r"1 read, 1 dropped \{'empty': 1\}, 0 held out"),
        (["a"], {"holdout": 0.999999}, "1 read, 0 dropped .*, 1 held out"),
        (
            ["a"],
            {"processors": [each(_failing)]},
            r"_failing, at record 'id of 'a'' of 'test', failed: ZeroDivisionError: nought \(test_prep",
        ),
        (["a"], {"processors": [each(_wrong)]}, "it gave None, neither a record nor the name"),
        (
            ["a"],
            {"processors": [_Columns(x=[1])]},
            r"processor '_Columns' failed: TypeError: it gave \[1\] as 'x', which is not a pa.Array",
        ),
        (["a"], {"processors": [_Columns(x=pa.array([1, 2]))]}, "gave 2 values of 'x' for 1 doc"),
        (["a"], {"processors": [_Columns(drop=pa.array([True]))]}, "it gave bool as 'drop'"),
        (["a"], {"processors": [_Columns(row=pa.array([5]))]}, "it gave 'row', a name that"),
        (["a"], {"processors": [_Columns(id=pa.array(["b"]))]}, "it gave 'id', a name that"),
        (
            ["a"],
            {"processors": [_Step(lambda corpus: corpus.map(_wrong, corpus.documents))]},
            "processor '_Step' failed: TypeError: tests.* gave None, which is not a pa.Table",
        ),
        (["a"], {"processors": [_Step(lambda _: 7)]}, "7 is no data set of this corpus"),
        (
            ["a"],
            {"processors": [_Step(lambda corpus: corpus.map(lambda t: t, corpus.documents))]},
            r"<lambda> is no function of a module; bind values by functools\.partial",
        ),
        (
            ["a"],
            {"processors": [_Step(lambda corpus: corpus.map(_dropped_by, corpus.documents))]},
            "processor '_Step' failed: TypeError: it gave bool as 'drop', which is not text",
        ),
        (
            ["a"],
            {"trainer": _untrained},
            r"the tokenizer failed: OverflowError: too much \(test_pr",
        ),
        (["a"], {"trainer": _no_end}, "the tokenizer has no end-of-sequence token"),
        (["a"], {"trainer": _holes}, "token 300 is none of the tokenizer's 2; .* leave holes"),
    ],
)
def test_what_goes_wrong_in_a_component_is_told_by_its_name(new_corpus, source, options, told):
    """As an error that a person can mend; and nothing is left of what was begun."""
    corpus = new_corpus()
    with pytest.raises(RunError, match=told):
        corpus.prepare(source, **options)
    assert corpus.is_gone()


@pytest.fixture
def small_files():
    """The kernel lets no file grow beyond 100 KB, and refuses as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_leaves_nothing_half_written(new_corpus, small_files):
    """The error names the folder and what to do."""
    corpus = new_corpus()
    with pytest.raises(RunError, match="corpus: File too large; free some space"):
        corpus.prepare(["long " * 30_000])
    assert corpus.is_gone()


def test_a_step_is_not_blamed_for_a_full_disk(new_corpus, small_files):
    """Nor is what it wrote half of kept."""
    corpus = new_corpus()
    annotation = _Columns(x=pa.array([np.random.default_rng(0).bytes(200_000)]))
    with pytest.raises(RunError, match=r"^[^ ]*corpus: File too large; free some space"):
        corpus.prepare(["a"], processors=[annotation])
    assert corpus.is_gone()


def test_a_place_that_cannot_be_written_is_an_error(new_corpus):
    """Here, a file where the run's folder should be."""
    corpus = new_corpus()
    corpus.folder.parent.rmdir()
    corpus.folder.parent.write_text("")
    with pytest.raises(RunError, match="corpus: Not a directory"):
        corpus.prepare(["a"])
