"""Documents that are too long for memory are cut into linked pieces, and nothing of them is lost."""

from __future__ import annotations

from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given, strategies as st

from engine.contracts.records import Text
from engine.data import pieces
from engine.data.holdout import is_held_out


def _pieces(*blocks, longest=12, **fields):
    document = Text(id="book", source="shelf", text="", **fields)
    with patch.object(pieces, "LONGEST", longest):
        return list(pieces.pieces_of(document, blocks))


def _texts(*blocks):
    return [piece.text for piece in _pieces(*blocks)]


@given(st.lists(st.text(st.sampled_from("ab \n\r"), max_size=40), max_size=5), st.integers(2, 20))
def test_the_pieces_joined_are_the_text(blocks, longest):
    """None is too long or empty, and none begins inside a CRLF."""
    found = [piece.text for piece in _pieces(*blocks, longest=longest)]
    assert "".join(found) == "".join(blocks)
    assert all(0 < len(text) <= longest for text in found) or found == [""]
    assert not [1 for one, after in pairwise(found) if one[-1] == "\r" and after[0] == "\n"]
    assert found == [piece.text for piece in _pieces("".join(blocks), longest=longest)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("short enough", ["short enough"]),
        ("a\n\nb\n\nc\nd e fgh", ["a\n\nb\n\n", "c\nd e fgh"]),
        ("a\r\n\r\nb\r\nc d e", ["a\r\n\r\n", "b\r\nc d e"]),
        ("a\n\r\nb c\n\nd e f g", ["a\n\r\nb c\n\n", "d e f g"]),
        ("a b\nc d e fghij", ["a b\n", "c d e fghij"]),
        ("abc def ghijkl", ["abc def ", "ghijkl"]),
        ("abc def ghij klm", ["abc def ", "ghij klm"]),
        ("abc def ghi klm", ["abc def ghi ", "klm"]),
        ("  abcdefghijklmnop", ["  abcdefghij", "klmnop"]),
        ("abcdefghijk\r\nlm", ["abcdefghijk", "\r\nlm"]),
    ],
)
def test_a_text_is_cut_at_the_best_place_before_the_limit(text, expected):
    """A blank line, else a line's end, else white space, else anywhere but in a CRLF."""
    assert _texts(text) == expected


def test_pieces_are_linked():
    """By the document's id and their number; the last says how many there are. A document that is not
    cut stays as it is."""
    found = _pieces("aaaa bbbb cccc dddd eeee", license="MIT", meta={"url": "u"})
    assert [piece.id for piece in found] == ["book#1", "book#2", "book#3"]
    assert {(piece.source, piece.license, piece.meta["url"]) for piece in found} == {
        ("shelf", "MIT", "u")
    }
    assert [(p.meta["piece_of"], p.meta["piece"], p.meta.get("pieces")) for p in found] == [
        ("book", 1, None),
        ("book", 2, None),
        ("book", 3, 3),
    ]
    assert _pieces("aaaa") == [Text(id="book", source="shelf", text="aaaa")]


@pytest.mark.parametrize("group", [None, "library"])
def test_pieces_are_held_out_together(group):
    """With their document's group, if it has one."""
    meta = {} if group is None else {"group": group}
    found = _pieces("words " * 40, meta=meta)
    assert {piece.meta["group"] for piece in found} == {group or "book"}
    assert len({is_held_out(piece, 0.5, seed=1) for piece in found}) == 1
