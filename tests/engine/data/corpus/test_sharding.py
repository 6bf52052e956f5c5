"""The order of documents in the shards: a shuffle that parts and processes do not change."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from unittest.mock import patch

import numpy as np
import pyarrow.parquet as pq
import pytest
from engine_data.config import BPE, Bytes
from engine_data.executors.local import LocalExecutor
from engine_data.tokenizers import build_bpe, build_bytes
from scipy.stats import chi2

from engine.contracts.data import DataSource
from engine.contracts.records import Text
from engine.data.corpus import sharding
from engine.data.corpus.each import each
from engine.data.corpus.executors import Means
from engine.data.records import NamedSource
from engine.data.shards import ShardWriter

COUNT = 2000


class _Numbers(DataSource):
    """Documents of numbers up to ``COUNT``, in parts between these ones."""

    def __init__(self, *bounds):
        self._parts = dict(zip("abcdefgh", pairwise([0, *bounds, COUNT]), strict=False))

    def parts(self):
        return list(self._parts)

    def records(self, part):
        for number in range(*self._parts[part]):
            yield Text(id=f"numbers:{number}", source="numbers", text=str(number))


class _Same(_Numbers):
    """The same documents by one id."""

    def records(self, part):
        return (replace(document, id="number") for document in super().records(part))


def _odd(document):
    """Annotates some documents alone."""
    return {"half": int(document.text) // 2} if int(document.text) % 2 else document


def _sharded(corpus, *bounds, name="numbers", processes=0, **options):
    """The numbers in the order of the shards, whose table says the same of each."""
    source = NamedSource(name, _Numbers(*bounds), key="numbers")
    options = {"processors": [each(_odd)], **options}
    with closing(LocalExecutor(processes)) as executor:
        corpus.prepare(source, means=Means(executor), **options)
    order = [int(text) for text in corpus.trained_on()]
    told = pq.read_table(corpus.folder / "shards" / "0" / "documents.parquet")
    assert told.column("id").to_pylist() == [f"numbers:{number}" for number in order]
    if options["processors"]:
        assert told.column("half").to_pylist() == [n // 2 if n % 2 else None for n in order]
    assert told.column("tokens").to_pylist() == [len(one) - 1 for one in corpus.tokens()]
    return order


@pytest.fixture(scope="module", name="order")
def _order(new_corpus):
    return _sharded(new_corpus(), 700, 800)


def test_the_order_is_a_permutation_with_uniform_positions(order):
    """By χ² of tenths of the corpus as it was read, and of tenths of the shards."""
    assert sorted(order) == list(range(COUNT))
    counts, _, _ = np.histogram2d(order, np.arange(COUNT), bins=10)
    expected = COUNT / 100
    statistic = ((counts - expected) ** 2 / expected).sum()
    assert chi2.ppf(0.0005, 81) < statistic < chi2.ppf(0.9995, 81)


@pytest.mark.parametrize("bounds", [(), (1, 2, 1999), range(250, COUNT, 250)])
def test_parts_do_not_change_the_order(new_corpus, order, bounds):
    """Of one, of nearly empty ones, and of many."""
    assert _sharded(new_corpus(), *bounds) == order


@pytest.mark.parametrize("processes", [1, 2])
def test_processes_change_no_byte(new_corpus, order, processes):
    """Of shards and their tables."""
    here, there = new_corpus(), new_corpus()
    assert _sharded(here, 700, 800) == order
    assert _sharded(there, 700, 800, processes=processes) == order
    assert _shards(here) == _shards(there)


def test_the_order_is_the_seed_s_and_the_source_s(new_corpus, order):
    """So that two sources of the same ids are not shuffled alike."""
    assert _sharded(new_corpus(), 700, 800, seed=4) != order
    assert _sharded(new_corpus(), 700, 800, name="others") != order


def test_held_out_documents_change_no_order(new_corpus, order):
    """The others are in the same one."""
    corpus = new_corpus()
    kept = _sharded(corpus, 700, 800, holdout=0.3)
    assert kept == [number for number in order if number in set(kept)]
    assert len(kept) + len(corpus.held_out()) == COUNT


def test_ids_do_not_change_the_order(new_corpus, order):
    """Those of files have the folder's name; and a source may give all its rows the same."""
    corpus = new_corpus()
    corpus.prepare(NamedSource("numbers", _Same(700, 800), key="same"))
    assert [int(text) for text in corpus.trained_on()] == order


def test_tokens_are_made_again_only_for_another_tokenizer(new_corpus):
    """A preparation that was broken off at the last step goes on there."""
    whole, corpus = new_corpus(), new_corpus()
    by_byte, by_pair = build_bytes(Bytes(), None), build_bpe(BPE(vocab_size=300), None)

    def sharded(corpus, trainer):
        _sharded(
            corpus, 700, 800, trainer=trainer, processors=[]
        )  # which have other keys each time

    sharded(whole, by_pair)
    with (
        patch.object(ShardWriter, "close", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        sharded(corpus, by_pair)
    for trainer, parts in ((by_byte, 3), (by_pair, 0)):
        with (
            patch.object(ShardWriter, "close", side_effect=KeyboardInterrupt),
            patch.object(sharding, "_encoder", wraps=sharding._encoder) as encoder,
            pytest.raises(KeyboardInterrupt),
        ):
            sharded(corpus, trainer)
        assert encoder.call_count == parts
    sharded(corpus, by_pair)
    assert _shards(corpus) == _shards(whole)


def _shards(corpus):
    folder = corpus.folder / "shards"
    return {f.relative_to(folder): f.read_bytes() for f in folder.rglob("*") if f.is_file()}
