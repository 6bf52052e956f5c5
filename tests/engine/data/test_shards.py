"""Token shards."""

from __future__ import annotations

import hashlib
import shutil
import tracemalloc
from contextlib import suppress
from pathlib import Path
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

from engine.data import shards as module
from engine.data.shards import Shards, ShardWriter, read_manifest
from engine.errors import RunError


def _write(folder: Path, documents, *, vocab_size: int = 300, shard_tokens: int = 1 << 20):
    writer = ShardWriter(
        folder, vocab_size=vocab_size, eos_id=0, boundary_target=True, shard_tokens=shard_tokens
    )
    for document in documents:
        writer.add(document, len(document))
    return writer.close()


@pytest.fixture
def three_shards(tmp_path: Path) -> Path:
    """Ten documents of 12 tokens each, in shards of 48, 48 and 24 tokens."""
    folder = tmp_path / "shards"
    _write(folder, [[n, *range(1, 12)] for n in range(10)], shard_tokens=40)
    assert [shard.tokens for shard in read_manifest(folder).shards] == [48, 48, 24]
    return folder


@given(
    st.sampled_from([2, 65536, 65537, 200_000]),
    st.integers(1, 60),
    st.integers(1, 30),
    st.data(),
)
@settings(max_examples=50, deadline=None)
def test_what_was_written_is_read(tmp_path_factory, vocab_size, shard_tokens, buffered, data):
    """Any documents come back from any number of shards, in any stretch, with their beginnings."""
    token = st.integers(0, vocab_size - 1) | st.just(vocab_size - 1)
    documents = data.draw(st.lists(st.lists(token, min_size=1, max_size=20), max_size=15))
    folder = tmp_path_factory.mktemp("any") / "shards"
    with patch.object(module, "_BUFFERED_TOKENS", buffered):
        manifest = _write(folder, documents, vocab_size=vocab_size, shard_tokens=shard_tokens)
    stream = [token for document in documents for token in document]
    starts = np.cumsum([0, *map(len, documents)])[:-1]
    shards = Shards.open(folder)
    assert manifest == read_manifest(folder)
    assert (manifest.tokens, manifest.documents) == (len(stream), len(documents))
    assert manifest.dtype == ("<u2" if vocab_size <= 65536 else "<u4")
    start = data.draw(st.integers(0, len(stream)))
    stop = data.draw(st.integers(start, len(stream)))
    assert shards.tokens(start, stop).tolist() == stream[start:stop]
    assert shards.document_starts(start, stop).tolist() == [s for s in starts if start <= s < stop]


def test_a_token_outside_the_vocabulary_is_an_error(tmp_path):
    """It would wrap around in two bytes, or have no embedding."""
    with pytest.raises(RunError, match="token 65536 is none of the tokenizer's 65536"):
        _write(tmp_path / "shards", [[1, 65536]], vocab_size=65536)


def test_the_manifest_has_the_checksum_of_every_file(three_shards):
    """So that another program can check a shard by itself."""
    for shard in read_manifest(three_shards).shards:
        for kind, expected in (("bin", shard.bin_sha256), ("idx", shard.idx_sha256)):
            content = (three_shards / f"{shard.name}.{kind}").read_bytes()
            assert hashlib.sha256(content).hexdigest() == expected


@given(st.integers(0), st.integers(0, 7))
@settings(max_examples=150, deadline=None)
def test_a_damaged_manifest_is_an_error_or_changes_no_token(tmp_path_factory, place, bit):
    """A flipped bit in it never ends in a traceback or in other tokens."""
    folder = tmp_path_factory.getbasetemp() / "damaged-manifest"
    shutil.rmtree(folder, ignore_errors=True)
    _write(folder, [[5, 6], [7, 8, 9]], shard_tokens=2)
    content = bytearray((folder / "manifest.json").read_bytes())
    content[place % len(content)] ^= 1 << bit
    (folder / "manifest.json").write_bytes(content)
    shards = None
    with suppress(RunError):
        shards = Shards.open(folder)
    if shards is not None:
        assert shards.tokens(0, 5).tolist() == [5, 6, 7, 8, 9]
        assert shards.document_starts(0, 5).tolist() == [0, 2]


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (
            lambda file: file.write_bytes(file.read_bytes()[:-1]),
            "00001.bin: 95 bytes instead of 96",
        ),
        (lambda file: file.write_bytes(file.read_bytes() + b"\0"), "97 bytes instead of 96"),
        (lambda file: file.unlink(), "00001.bin: missing"),
    ],
)
def test_a_cut_or_missing_file_is_found_without_reading_it(three_shards, harm, told):
    """Sizes are compared on every opening."""
    harm(three_shards / "00001.bin")
    with pytest.raises(RunError, match=told):
        Shards.open(three_shards)


@pytest.mark.parametrize("content", [None, "", "[]", '{"format": 2, "shards": []}'])
def test_a_folder_without_a_whole_manifest_is_no_folder_of_shards(tmp_path, content):
    """So what a killed writer left behind is never read."""
    writer = ShardWriter(tmp_path / "s", vocab_size=9, eos_id=0, boundary_target=True)
    writer.add([1, 2, 3], 3)
    if content is not None:
        (tmp_path / "s/manifest.json").write_text(content)
    with pytest.raises(RunError, match=r"manifest\.json: not a manifest of shards"):
        Shards.open(tmp_path / "s")


def test_another_format_is_refused(three_shards):
    """A later engine's shards are not guessed at."""
    file = three_shards / "manifest.json"
    file.write_text(file.read_text().replace('"format": 1', '"format": 2'))
    with pytest.raises(RunError, match="format 2, this engine reads 1"):
        Shards.open(three_shards)


def test_no_documents_make_an_empty_stream(tmp_path):
    """Nothing to read is no reason to crash."""
    _write(tmp_path / "shards", [])
    shards = Shards.open(tmp_path / "shards")
    assert shards.n_tokens == 0
    assert shards.tokens(0, 0).tolist() == shards.document_starts(0, 10).tolist() == []


def test_reading_takes_no_more_memory_than_what_is_read(tmp_path):
    """The tokens stay on the disk, mapped; opening 8 MB and reading 1,000 tokens takes little."""
    document = np.arange(1 << 16) % 50_000
    _write(tmp_path / "shards", [document] * 64, vocab_size=50_000)
    tracemalloc.start()
    shards = Shards.open(tmp_path / "shards")
    tokens = shards.tokens(3_000_000, 3_001_000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert tokens.tolist() == (np.arange(3_000_000, 3_001_000) % (1 << 16) % 50_000).tolist()
    assert peak < 1 << 18
