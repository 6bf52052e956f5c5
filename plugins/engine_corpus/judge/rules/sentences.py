"""Finds sentences in words."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence

from engine_corpus.judge.rules.characters import SENTENCE_ENDS
from engine_corpus.judge.rules.words import Kind

_CLOSING = "\"'\u2019\u201d\u203a\u00bb)]}\uff09\u300d\u300f\u3011"


def sentences(text: str, words: Sequence[str], kind: Kind) -> list[str]:
    """Returns the text of each sentence, with white space around it; at least one.

    ``words``: of the text. A sentence ends with a mark such as ``.`` and the punctuation that follows
    it without more than a space between. The mark is a word of its own among ``unicode`` words; among
    ``whitespace`` words it is the end of one, but for closing quotation marks and brackets.
    """
    found = []
    begin = end = 0
    ended = False
    for word in words:
        position = text.index(word, end)
        if ended and (_wide(text[end:position]) or not _punctuation(word)):
            found.append(text[begin:end])
            begin, ended = end, False
        ended = ended or _marks(word, kind)
        end = position + len(word)
    if ended and _wide(text[end:]):
        found.append(text[begin:end])
        begin = end
    return [*found, text[begin:]]


def _wide(gap: str) -> bool:
    return gap not in ("", " ")


def _marks(word: str, kind: Kind) -> bool:
    """Whether a word ends a sentence."""
    if kind == "whitespace":
        return word.rstrip(_CLOSING)[-1:] in SENTENCE_ENDS
    return word in SENTENCE_ENDS


def _punctuation(word: str) -> bool:
    return word in SENTENCE_ENDS or all(
        unicodedata.category(character).startswith("P") for character in word
    )
