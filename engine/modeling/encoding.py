"""Encodes texts as tokens, the same way for training, evaluation, answers and rewards.

The name of a special token inside a text is encoded as ordinary text; only a chat template writes
special tokens. A text can be cut into parts that no token spans, because what a model reads and what it
writes share no token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPELLED = 0x100000
"""Private-use characters (Unicode plane 16) for names of special tokens in a record's text."""
_ALIASES = 0xF0000
"""Private-use characters (plane 15) that the encoder gives special tokens as their names, so that
their usual names are ordinary text."""
_WORD = "a"
_ANCHORS = ("\n", ")", "0")
"""Texts put before a part that is encoded by itself: some tokenizers add a space at a text's start."""
TAIL = 8
"""Tokens before a continuation to decode with it: some decoders strip the first space of a text."""


class Encoder:
    """Encodes texts with a fast tokenizer, without the tokens that it puts first (:func:`opening`).

    ``backend``: the tokenizer, in which special tokens have private-use characters as their names.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        added = tokenizer.get_added_tokens_decoder()
        self.special = {t.content: i for i, t in added.items() if t.special and t.content}
        """Ids of special tokens by name."""
        names = sorted(self.special, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._spelled = {name: chr(_SPELLED + n) for n, name in enumerate(names)}
        self._named = {ord(char): name for name, char in self._spelled.items()}
        self._alias = {name: chr(_ALIASES + n) for n, name in enumerate(names)}
        self._private = re.compile(f"[{chr(_ALIASES)}-{chr(_SPELLED + len(names))}]")
        self._tokenizer = tokenizer
        self.backend = _renamed(tokenizer, self._alias)
        for name, alias in self._alias.items():
            assert self.backend.token_to_id(alias) == self.special[name], name

    def text(self, text: str) -> list[int]:
        """Tokens of a text, none of them special."""
        private = self.has_private(text)  # the backend would read it as a special token
        backend = self._without_special if private else self.backend
        ids: list[int] = backend.encode(text, add_special_tokens=False).ids
        return ids

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of several texts, each encoded as by :meth:`text`."""
        if any(map(self.has_private, texts)):
            return [self.text(text) for text in texts]
        return [e.ids for e in self.backend.encode_batch(list(texts), add_special_tokens=False)]

    @cached_property
    def _without_special(self) -> Tokenizer:
        """A tokenizer that takes private-use characters, and the usual names of special tokens, for
        ordinary text."""
        tokenizer = _renamed(self._tokenizer, {})
        tokenizer.encode_special_tokens = True
        return tokenizer

    def has_private(self, text: str) -> bool:
        """Whether a text has private-use characters that this class uses for special tokens."""
        return self._private.search(text) is not None

    def spelled(self, value: Any) -> Any:
        """The data with names of special tokens replaced by characters that no template knows."""
        return _mapped(
            value, lambda text: self._pattern.sub(lambda found: self._spelled[found[0]], text)
        )

    def public(self, value: Any) -> Any:
        """The data with U+FFFD for the private-use characters that this class uses."""
        return _mapped(value, lambda text: self._private.sub("\ufffd", text))

    def last_special(self, text: str) -> re.Match[str] | None:
        """The match of the last special token in a rendered text, or None."""
        return max(self._pattern.finditer(text), key=re.Match.start, default=None)

    def only_special(self, text: str) -> bool:
        """Whether a rendered text has only special tokens and white space."""
        return not self._pattern.sub("", text).strip()

    def first_special(self, text: str) -> str | None:
        """The name of the first special token in a rendered text, or None."""
        found = self._pattern.search(text)
        return found and found[0]

    def rendered(self, text: str, cuts: Sequence[int] = ()) -> list[list[int]]:
        """Tokens of a template's output for :meth:`spelled` data, cut at character offsets ``cuts``."""
        edges = [0, *cuts, len(text)]
        parts = [
            self._pattern.sub(lambda found: self._alias[found[0]], part).translate(self._named)
            for part in (text[start:end] for start, end in pairwise(edges))
        ]
        return self._cut(parts)

    def parts(self, parts: Sequence[str]) -> list[list[int]]:
        """Tokens of the parts of one text, encoded as in the whole, but with no token across parts.

        If a token would span a cut, the parts before it are encoded as if nothing followed, which is
        what a model that continues them has read.
        """
        if any(map(self.has_private, parts)):
            return [self.text(part) for part in parts]
        return self._cut(parts)

    def _cut(self, parts: Sequence[str]) -> list[list[int]]:
        """As :meth:`parts`, of a text that has aliases in place of special tokens."""
        if len(parts) == 1:
            return [self.backend.encode(parts[0], add_special_tokens=False).ids]
        encoded = self.backend.encode("".join(parts), add_special_tokens=False)
        ids, ends = encoded.ids, [end for _, end in encoded.offsets]
        found: list[list[int]] = []
        at = edge = 0
        for number, part in enumerate(parts[:-1], 1):
            edge += len(part)
            until = at
            while until < len(ids) and ends[until] <= edge:
                until += 1
            if until < len(ids) and encoded.offsets[until][0] < edge:
                before = self._cut(parts[:number])
                return before + self._after(parts[number:])
            found.append(ids[at:until])
            at = until
        return [*found, ids[at:]]

    def _after(self, parts: Sequence[str]) -> list[list[int]]:
        """Tokens of parts from inside a text, encoded without the text before them."""
        for anchor in _ANCHORS:
            encoded = self.backend.encode(anchor + "".join(parts), add_special_tokens=False)
            if not any(start < len(anchor) < end for start, end in encoded.offsets):
                return self._cut([anchor, *parts])[1:]
        return self._cut(parts)


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {key: _mapped(one, change) for key, one in value.items()}
    if isinstance(value, Sequence):
        return [_mapped(one, change) for one in value]
    return value


@lru_cache(maxsize=8)
def encoder(tokenizer: Any) -> Encoder:
    """The encoder of a tokenizer; cached, because it copies the vocabulary."""
    return Encoder(tokenizer.backend_tokenizer)


def opening(tokenizer: Any) -> list[int]:
    """Tokens that the tokenizer itself puts before a text: BOS or none."""
    bare: list[int] = tokenizer.encode(_WORD, add_special_tokens=False)
    whole: list[int] = tokenizer.encode(_WORD)
    starts = range(len(whole) - len(bare) + 1)
    return whole[: next((i for i in starts if whole[i : i + len(bare)] == bare), 0)]


def boundary(tokenizer: Any) -> int:
    """The token id before a document's first token: BOS, or EOS without a BOS (as in lm-eval)."""
    bos = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id if bos is None else bos)


def document_tokens(tokenizer: Any, text: str) -> list[int]:
    """Tokens of a document in training: boundary token, text, EOS."""
    return [boundary(tokenizer), *encoder(tokenizer).text(text), tokenizer.eos_token_id]


def opened(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Tokens of prompts from outside records, encoded as in transformers and lm-eval: names of special
    tokens are special tokens.

    BOS occurs once, also if the text itself begins with it.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    before = opening(tokenizer)
    return [ids if ids[: len(before)] == before else [*before, *ids] for ids in encoded]


def continuation(tokenizer: Any, before: Sequence[int], ids: Sequence[int]) -> str:
    """The text that the tokens ``ids`` add after the tokens ``before``, without special tokens."""
    tail = list(before[-TAIL:])
    known: str = tokenizer.decode(tail, skip_special_tokens=True)
    whole: str = tokenizer.decode([*tail, *ids], skip_special_tokens=True)
    if whole.startswith(known):
        return whole[len(known) :]
    alone: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    return alone


def _renamed(backend: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """A copy with these names for special tokens, which adds none to a text."""
    from tokenizers import Tokenizer  # not at the top: configurations import this module

    state = json.loads(backend.to_str())
    state |= {"post_processor": None, "truncation": None, "padding": None}
    for token in state["added_tokens"]:
        token["content"] = names.get(token["content"], token["content"])
    model = state["model"]
    vocabulary = model["vocab"]
    if isinstance(vocabulary, Mapping):
        model["vocab"] = {names.get(name, name): i for name, i in vocabulary.items()}
    else:
        model["vocab"] = [[names.get(name, name), score] for name, score in vocabulary]
    if isinstance(model.get("unk_token"), str):
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    return Tokenizer.from_str(json.dumps(state))
