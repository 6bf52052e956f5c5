"""Encodes many texts: by tiktoken where it is proved to give the same ids, else by tokenizers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from engine.modeling.byte_pairs import BytePairs, byte_pairs
from engine.modeling.encoding import Encoder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids = NDArray[np.uint32]
_CLASSES = (r"\p{L}", r"\p{N}", r"\s")
"""Of characters, that patterns name: each library has those of its own version of Unicode."""

_PRIVATE = 0xF0000
"""From here on characters may be names of special tokens, and none is of a script."""


class FastEncoder:
    """Encodes texts as :meth:`Encoder.texts`. ``fast``: whether tiktoken encodes any."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._encoder = Encoder(tokenizer)
        self._tiktoken = _tiktoken(self._encoder.backend)
        self.fast = self._tiktoken is not None

    def texts(self, texts: Sequence[str]) -> list[Ids]:
        """Tokens of texts, none of them special."""
        found = [None] * len(texts) if self._tiktoken is None else self._tiktoken.texts(texts)
        slow = [number for number, ids in enumerate(found) if ids is None]
        encoded = self._encoder.texts([texts[number] for number in slow])
        left = iter(np.asarray(ids, np.uint32) for ids in encoded)
        return [next(left) if ids is None else ids for ids in found]


class _Tiktoken:
    """Gives the ids of texts, and None for those that it may divide otherwise than tokenizers."""

    def __init__(self, pairs: BytePairs) -> None:
        self._encoding = _encoding(pairs.pattern, pairs.ranks)
        self._ids = np.array(pairs.ids, np.uint32)
        self._sizes = np.array([len(token) for token in pairs.ranks])
        self._any_case = "(?i:" in pairs.pattern
        self._same: set[str] = set()
        self._other: set[str] = set()

    def texts(self, texts: Sequence[str]) -> list[Ids | None]:
        met = set("".join(texts))
        new = met - self._same - self._other
        if new:
            other = self._told_apart(new)
            self._other |= other
            self._same |= new - other
        other = met & self._other
        return [
            None if other and not other.isdisjoint(text) else self._text(text) for text in texts
        ]

    def _text(self, text: str) -> Ids | None:
        try:
            ranks = self._encoding.encode_to_numpy(text, disallowed_special=())
        except ValueError:  # its engine of patterns gives up at a million spaces in a row
            return None
        whole = int(self._sizes[ranks].sum()) == len(text.encode())
        return self._ids[ranks] if whole else None  # it leaves out what the pattern does not match

    def _told_apart(self, characters: Iterable[str]) -> set[str]:
        """Those that may be of different classes to the two libraries."""
        from tokenizers import Regex
        from tokenizers.pre_tokenizers import Split

        other = {one for one in characters if _is_unusual(one, self._any_case)}
        usual = "".join(sorted(set(characters) - other))
        for name in _CLASSES:
            rest = Split(Regex(name), "removed").pre_tokenize_str(usual)
            theirs = set(usual).difference(*(piece for piece, _ in rest))
            found = _encoding(name, {bytes([byte]): byte for byte in range(256)})
            ours = set(bytes(found.encode_ordinary(usual)).decode())
            other |= theirs ^ ours
        return other


def _is_unusual(character: str, any_case: bool) -> bool:
    """Whether a character is none of a text, may be the name of a special token, or, for a pattern that
    ignores case, may be taken for one of ASCII."""
    code = ord(character)
    folded = any_case and code >= 0x80 and any(one.isascii() for one in character.casefold())
    return 0xD800 <= code < 0xE000 or code >= _PRIVATE or folded


def _encoding(pattern: str, ranks: Mapping[bytes, int]) -> Any:
    import tiktoken

    # Without any special token it would look for the empty text everywhere.
    special = {chr(_PRIVATE): len(ranks)}
    return tiktoken.Encoding(
        "", pat_str=pattern, mergeable_ranks=dict(ranks), special_tokens=special
    )


def _tiktoken(tokenizer: Tokenizer) -> _Tiktoken | None:
    try:
        import tiktoken  # noqa: F401 - comes with the extra `corpus`
    except ImportError:
        return None
    pairs = byte_pairs(tokenizer)
    return None if pairs is None else _Tiktoken(pairs)
