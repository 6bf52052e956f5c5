"""Documents side by side in rows."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from engine_lm.attention import use_in_training
from hypothesis import given, settings, strategies as st
from support.models import tiny

from engine.data.shards import Shards, ShardWriter
from engine.data.windows import Windows
from engine.modeling.heads import head, hidden_states
from engine.modeling.packing import (
    IGNORE,
    Row,
    document_bounds,
    join,
    pack,
)

_DOCUMENTS = st.lists(st.lists(st.integers(1, 50), min_size=1, max_size=12), max_size=12)


def _windows(folder: Path, documents, length: int, *, boundary_target: bool = True) -> Windows:
    writer = ShardWriter(folder, vocab_size=64, eos_id=0, boundary_target=boundary_target)
    for document in documents:
        writer.add(document, 0)
    writer.close()
    return Windows(Shards.open(folder), length)


def _rows(windows: Windows) -> list[Row]:
    return [Row(**example.fields) for example in windows]


@given(_DOCUMENTS, st.integers(1, 15), st.booleans())
@settings(max_examples=60, deadline=None)
def test_windows_are_the_stream_cut_up(tmp_path_factory, documents, length, boundary_target):
    """Inputs are all tokens in order, labels the tokens after them; positions count within a
    document, or from the row's start; a document's first token is a label only where it stands for
    the end of the one before."""
    folder = tmp_path_factory.mktemp("windows") / "shards"
    rows = _rows(_windows(folder, documents, length, boundary_target=boundary_target))
    stream = [token for document in documents for token in document]
    begins = [place == 0 for document in documents for place in range(len(document))]
    assert len(rows) == max(0, len(stream) - 1) // length
    for number, row in enumerate(rows):
        at = number * length
        assert row.input_ids.tolist() == stream[at : at + length]
        for t in range(length):
            counts = boundary_target or not begins[at + t + 1]
            assert row.labels[t] == (stream[at + t + 1] if counts else IGNORE)
            restarts = t == 0 or begins[at + t]
            assert row.position_ids[t] == (0 if restarts else row.position_ids[t - 1] + 1)


def test_a_window_outside_the_stream_is_an_index_error(tmp_path):
    """So a loop over the windows ends, and a negative index does not read something else."""
    windows = _windows(tmp_path / "s", [[1] * 11], 5)
    for index in (2, -1):
        with pytest.raises(IndexError):
            windows[index]


def _best_fit(lengths, capacity):
    """Best-fit decreasing as the textbooks have it, in O(n²): the fullest row that has space."""
    rows: list[list[int]] = []
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        space = [capacity - sum(lengths[j] for j in row) for row in rows]
        fitting = [r for r in range(len(rows)) if space[r] >= lengths[i]]
        if fitting:
            rows[min(fitting, key=lambda r: space[r])].append(i)
        else:
            rows.append([i])
    return rows


@given(st.lists(st.integers(1, 20), max_size=40))
@settings(max_examples=80, deadline=None)
def test_packing_is_best_fit_decreasing(lengths):
    """Every example is in one row, no row overflows, and rows are as full as the textbook's."""
    rows = pack(lengths, 20)
    assert sorted(i for row in rows for i in row) == list(range(len(lengths)))
    filled = sorted(sum(lengths[i] for i in row) for row in rows)
    assert filled == sorted(sum(lengths[i] for i in row) for row in _best_fit(lengths, 20))
    assert all(fill <= 20 for fill in filled)
    assert pack(lengths, 20) == rows


def test_an_example_longer_than_a_row_is_an_error():
    """It is named; nothing is cut off silently."""
    with pytest.raises(ValueError, match="example 1 has 9 tokens, but a row holds 8"):
        pack([3, 9], 8)


def _row(*tokens: int) -> Row:
    ids = np.array(tokens)
    return Row(ids, ids + 1, np.arange(len(ids)))


def test_joined_examples_keep_labels_and_positions():
    """What is left of the row is padding that counts nowhere and sees nobody."""
    row = join([_row(3, 4, 5), _row(7, 8)], 7, pad_id=1)
    assert row.input_ids.tolist() == [3, 4, 5, 7, 8, 1, 1]
    assert row.labels.tolist() == [4, 5, 6, 8, 9, IGNORE, IGNORE]
    assert row.position_ids.tolist() == [0, 1, 2, 0, 1, 0, 0]
    with pytest.raises(ValueError, match="5 tokens do not fit a row of 4"):
        join([_row(3, 4, 5), _row(7, 8)], 4, pad_id=1)


@pytest.fixture(scope="module")
def llama():
    """Two layers with grouped keys, without dropout, at random weights."""
    return tiny(
        hidden_size=32,
        intermediate_size=64,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.5,
    )


def _logits(model, rows) -> torch.Tensor:
    inputs = {
        name: torch.from_numpy(np.stack([getattr(row, name) for row in rows]))
        for name in ("input_ids", "position_ids")
    }
    with torch.no_grad():
        return head(model)(hidden_states(model, **inputs))


@pytest.mark.parametrize("attention", ["sdpa", "eager", "training"])
def test_a_document_never_sees_another_in_its_row(tmp_path, llama, attention):
    """Changing one document leaves all others' logits as they are, to the last bit.

    The row is longer than a block of the training attention, and documents cross its blocks.
    """
    if attention == "training":
        use_in_training(llama)
    else:
        llama.set_attn_implementation(attention)
    random = np.random.default_rng(3)
    lengths = [100, 1, 70, 40, 90, 20]
    documents = [[0, *random.integers(1, 64, n - 1).tolist()] for n in lengths]
    rows = _rows(_windows(tmp_path / "s", documents, 160))
    assert len(rows) == 2
    before = _logits(llama, rows).flatten(0, 1)
    ends = np.cumsum(lengths)
    for changed in range(len(documents)):
        other = [*documents]
        other[changed] = [(token + 1) % 64 for token in documents[changed]]
        folder = tmp_path / f"without-{changed}"
        after = _logits(llama, _rows(_windows(folder, other, 160))).flatten(0, 1)
        own = range(ends[changed] - lengths[changed], min(ends[changed], len(before)))
        rest = [t for t in range(len(before)) if t not in own]
        assert torch.equal(after[rest], before[rest])
        assert not torch.isclose(after[own], before[own]).all(-1).any()


@pytest.mark.parametrize("attention", ["sdpa", "training"])
def test_a_packed_document_has_the_logits_that_it_has_alone(tmp_path, llama, attention):
    """Its positions begin at 0 and its attention at its first token, wherever it lies.

    To 1e-5, as sums in another order of blocks round differently in float32.
    """
    if attention == "training":
        use_in_training(llama)
    else:
        llama.set_attn_implementation(attention)
    random = np.random.default_rng(4)
    examples = [_row(*random.integers(1, 64, n)) for n in (90, 30, 60)]
    packed = _logits(llama, [join(examples, 200, pad_id=1)])[0]
    alone = torch.cat([_logits(llama, [example])[0] for example in examples])
    torch.testing.assert_close(packed[:180], alone, rtol=1e-5, atol=1e-5)


def test_bounds_of_documents():
    """Rows end to end; padding is one document, and so are equal tokens that each are one; another
    number of documents is filled up to a power of four."""
    ids = np.array([[5, 6, 7, 5, 6, 1, 1, 1], [2, 2, 2, 3, 3, 4, 4, 9]])
    places = np.array([[0, 1, 2, 0, 1, 0, 0, 0], [0, 0, 0, 1, 2, 0, 0, 1]])
    # In row 1 the third 2 begins a document of three tokens, and the second 4 one of two.
    expected = [0, 3, 5, 8, 10, 13, 14]
    bounds = document_bounds(ids, places)
    assert bounds.dtype == np.int32
    assert bounds.tolist() == expected + [16] * (17 - len(expected))
    assert document_bounds(ids[:1, :3], places[:1, :3]).tolist() == [0, 3]
    assert places[0].tolist() == [0, 1, 2, 0, 1, 0, 0, 0]


@given(
    st.lists(
        st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=5), min_size=1, max_size=6),
        min_size=1,
        max_size=3,
    )
)
def test_bounds_keep_documents_apart(rows):
    """Whatever is packed: every document begins at a bound, but for one whose only token is its
    neighbour's, which is alone as well; and nothing else is one."""
    length = max(sum(map(len, row)) for row in rows)
    padded = [[*row, *[[0]] * (length - sum(map(len, row)))] for row in rows]
    ids = np.array([[t for d in row for t in d] for row in padded])
    places = np.array([[i for d in row for i in range(len(d))] for row in padded])
    wanted, at = [], 0
    for row in padded:
        for number, document in enumerate(row):
            before = row[number - 1] if number else None
            if not (before == document and len(document) == 1):
                wanted.append(at)
            at += len(document)
    bounds = document_bounds(ids, places).tolist()
    assert bounds[: len(wanted)] == wanted
    assert set(bounds[len(wanted) :]) == {ids.size}
