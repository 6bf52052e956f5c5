"""Tokenizers of byte pairs whose ids tiktoken gives as well: which they are, and their ranks.

tokenizers joins, again and again, the neighbouring tokens that are the first *listed merge*; tiktoken
those that together are the token of the lowest *rank*. Both take the leftmost of several. They do the
same where every token, taken as a text, becomes just that one token:

Let two neighbours inside a word together be a token ``t``. No merge so far has crossed the ends of this
region, so that those inside it are the first ones that the bytes of ``t`` alone would undergo. These
become ``t`` in the end, and before it exactly two tokens: hence the neighbours are these two, and their
pair is the last merge of ``t``. Every listed merge that can occur is such a one, so that tokens ranked
by their last merges are joined in the same order.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""What ByteLevel divides texts by, unless told otherwise."""
_CHARACTER = (
    r"\\p\{[LN]\}|\\[sSrnt]|[^\\\[\](){}^$.|?*+]|\[\^?(?:\\p\{[LN]\}|\\[srnt]|[^\\\[\]^&-])+\]"
)
_ONE_MEANING = re.compile(
    rf"(?:(?:{_CHARACTER})(?:[?*+]|\{{\d+(?:,\d*)?\}})?(?![?*+{{])|\(\?(?:i?:|!)|[)|])+"
)
"""Patterns that mean the same to every engine that tries alternatives from the left, where letters,
numbers and white space are the same: no repeated groups, lazy or possessive repetition, or anchors."""


@dataclass(frozen=True, slots=True)
class BytePairs:
    """``ranks``: of each token's bytes; ``ids``: of each rank; ``pattern``: of the pieces of a text
    that tokens do not cross."""

    ranks: Mapping[bytes, int]
    ids: Sequence[int]
    pattern: str


def byte_pairs(tokenizer: Tokenizer) -> BytePairs | None:
    """What tiktoken needs to give the same ids; None for a tokenizer that it may differ from."""
    state = json.loads(tokenizer.to_str())
    pattern = _pattern(state["pre_tokenizer"])
    named = [token for token in state["added_tokens"] if not token["special"]]
    if state["normalizer"] is not None or named or pattern is None or not _plain(state["model"]):
        return None
    vocabulary: Mapping[str, int] = state["model"]["vocab"]
    bytes_of = {character: bytes([byte]) for byte, character in enumerate(_alphabet())}
    merged = (first + second for first, second in state["model"]["merges"])
    tokens = [*bytes_of, *(token for token, _ in groupby(merged))]
    if len(set(tokens)) < len(tokens):  # merges of a token stand apart: its rank is in doubt
        return None
    spelled = [token for token in vocabulary if bytes_of.keys() >= set(token)]
    if set(spelled) != set(tokens) or not _become_themselves(state, spelled):
        return None
    ranks = {b"".join(map(bytes_of.__getitem__, token)): rank for rank, token in enumerate(tokens)}
    return BytePairs(ranks, [vocabulary[token] for token in tokens], pattern)


def _pattern(pre_tokenizer: Mapping[str, Any] | None) -> str | None:
    """The pattern of a pre-tokenizer that only divides texts and takes their bytes."""
    match pre_tokenizer:
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}:
            return _GPT2
        case {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": pattern},
                    "behavior": "Isolated",
                    "invert": False,
                },
                {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False},
            ],
        } if pattern.isascii() and _ONE_MEANING.fullmatch(pattern):
            known = pattern.replace(r"\p{L}", "a").replace(r"\p{N}", "0")
            # Where the pattern matches what is empty, engines go on in different ways.
            return None if re.fullmatch(known, "") else str(pattern)
    return None


def _plain(model: Mapping[str, Any]) -> bool:
    """Whether a model does nothing but merge pairs."""
    affixes = ("continuing_subword_prefix", "end_of_word_suffix")
    options = ("dropout", "unk_token", "byte_fallback", *affixes)
    return "merges" in model and not any(model.get(option) for option in options)


def _become_themselves(state: Mapping[str, Any], tokens: Sequence[str]) -> bool:
    """Whether each of these tokens, taken as a text, becomes that one token."""
    from tokenizers import Tokenizer

    merging = {**state, "model": {**state["model"], "ignore_merges": False}}  # or it proves nothing
    model = Tokenizer.from_str(json.dumps(merging)).model
    return all([one.value for one in model.tokenize(token)] == [token] for token in tokens)


def _alphabet() -> list[str]:
    """The characters that stand for bytes, of each byte."""
    shown = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte if byte in shown else next(others)) for byte in range(0x100)]
