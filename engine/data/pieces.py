"""Cuts documents that are too long for memory into linked pieces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace

from engine.contracts.records import Text

LONGEST = 2**20
"""Characters of the longest document that is not cut, and of the longest piece."""


def pieces_of(document: Text, blocks: Iterable[str]) -> Iterator[Text]:
    """The document whose text is these blocks in order, of any size each; its own ``text`` is ignored.

    One of more than 1 Mi characters is cut into pieces that together are the text: each at the last
    blank line, else the last line end, else the last white space, else anywhere but in a CRLF. Piece
    ``n``, from 1, has the id ``ID#n`` and in its ``meta`` the keys ``piece_of``, the document's id, and
    ``piece``, n; the last one has their number as ``pieces``. All have the same ``meta.group``, so that
    none is held out without the others.
    """
    texts = _cut(blocks)
    text, number = next(texts), 1
    meta = {"group": document.id, **document.meta, "piece_of": document.id}
    for following in texts:
        name = f"{document.id}#{number}"
        yield replace(document, id=name, text=text, meta={**meta, "piece": number})
        text, number = following, number + 1
    if number > 1:
        meta |= {"piece": number, "pieces": number}
        document = replace(document, id=f"{document.id}#{number}", meta=meta)
    yield replace(document, text=text)


def _cut(blocks: Iterable[str]) -> Iterator[str]:
    text, start = "", 0
    for block in blocks:
        text, start = text[start:] + block, 0
        while len(text) - start > LONGEST:
            end = _end(text, start, start + LONGEST)
            yield text[start:end]
            start = end
    yield text[start:]


def _end(text: str, start: int, most: int) -> int:
    """Where a piece that begins at ``start`` ends, at ``most`` or before."""
    blank = max(text.rfind("\n\n", start, most), text.rfind("\n\r\n", start, most))
    if blank >= 0:
        return text.index("\n", blank + 1) + 1
    line = text.rfind("\n", start, most)
    if line >= 0:
        return line + 1
    if text[most - 1] == "\r" and text[most] == "\n":
        most -= 1
    if not text[most - 1].isspace():
        words = text[start:most].rsplit(None, 1)
        most -= len(words[1]) if len(words) == 2 else 0
    return most
