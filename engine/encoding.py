"""Texts as tokens: the one way of training, scores, answers and rewards.

What a text spells out is text, also where it is the name of a special token; only a chat template
writes special tokens. A text can be cut into parts that no token spans, as what a model reads and what
it writes have no token in common.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SPELLED = 0x100000
"""Private characters (Unicode, plane 16) for the special tokens that a record spells out."""
_ALIASES = 0xF0000
"""Private characters (plane 15) by which the encoder knows special tokens: their names are text."""
_WORD = "a"
_ANCHORS = ("\n", ")", "0")
"""Before a part that is encoded by itself: at the beginning of a text some tokenizers add a space."""
TAIL = 8
"""Tokens before a continuation that are decoded with it: some decoders strip a text's first space."""


class Encoder:
    """The texts of one fast tokenizer. Without what it puts before a text: see :func:`opening`."""

    def __init__(self, tokenizer: Any) -> None:
        added = tokenizer.added_tokens_decoder
        self.special = {t.content: i for i, t in added.items() if t.special and t.content}
        """Ids of special tokens by their names."""
        names = sorted(self.special, key=len, reverse=True)
        self._pattern = re.compile("|".join(map(re.escape, names)) or r"(?!)")
        self._spelled = {name: chr(_SPELLED + n) for n, name in enumerate(names)}
        self._named = {ord(char): name for name, char in self._spelled.items()}
        self._alias = {name: chr(_ALIASES + n) for n, name in enumerate(names)}
        self._private = re.compile(f"[{chr(_ALIASES)}-{chr(_SPELLED + len(names))}]")
        self._tokenizer = tokenizer
        self._backend = _renamed(tokenizer.backend_tokenizer, self._alias)
        for name, alias in self._alias.items():
            assert self._backend.token_to_id(alias) == self.special[name], name

    def text(self, text: str) -> list[int]:
        """Tokens of a text in which nothing is special."""
        if self.has_private(text):  # which may be another name of a special token here
            options = {"add_special_tokens": False, "split_special_tokens": True}
            plain: list[int] = self._tokenizer.encode(text, **options)
            return plain
        ids: list[int] = self._backend.encode(text, add_special_tokens=False).ids
        return ids

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Tokens of many texts, each as :meth:`text` has them."""
        if any(map(self.has_private, texts)):
            return [self.text(text) for text in texts]
        return [e.ids for e in self._backend.encode_batch(list(texts), add_special_tokens=False)]

    def has_private(self, text: str) -> bool:
        """Whether a text has private characters by which this class knows special tokens."""
        return self._private.search(text) is not None

    def spelled(self, value: Any) -> Any:
        """The data with characters that no template knows for special tokens that it spells out."""
        if isinstance(value, str):
            return self._pattern.sub(lambda found: self._spelled[found[0]], value)
        if isinstance(value, Mapping):
            return {key: self.spelled(one) for key, one in value.items()}
        if isinstance(value, Sequence):
            return [self.spelled(one) for one in value]
        return value

    def last_special(self, text: str) -> re.Match[str] | None:
        """The last special token that a rendered text has."""
        return max(self._pattern.finditer(text), key=re.Match.start, default=None)

    def only_special(self, text: str) -> bool:
        """Whether a rendered text has nothing but special tokens and white space."""
        return not self._pattern.sub("", text).strip()

    def first_special(self, text: str) -> str | None:
        """The name of the first special token in a rendered text."""
        found = self._pattern.search(text)
        return found and found[0]

    def rendered(self, text: str, cuts: Sequence[int] = ()) -> list[list[int]]:
        """Tokens of what a template made of :meth:`spelled` data, in parts that end at ``cuts``."""
        edges = [0, *cuts, len(text)]
        parts = [
            self._pattern.sub(lambda found: self._alias[found[0]], text[a:b]).translate(self._named)
            for a, b in pairwise(edges)
        ]
        return self._cut(parts)

    def parts(self, parts: Sequence[str]) -> list[list[int]]:
        """Tokens of the parts of one text: each as in the whole, but no token is in two of them.

        A part has the tokens that it has where nothing follows, as a model reads it that goes on.
        """
        if any(map(self.has_private, parts)):
            return [self.text(part) for part in parts]
        return self._cut(parts)

    def _cut(self, parts: Sequence[str]) -> list[list[int]]:
        """The same of a text that has the names by which special tokens are known here."""
        if len(parts) == 1:
            return [self._backend.encode(parts[0], add_special_tokens=False).ids]
        encoded = self._backend.encode("".join(parts), add_special_tokens=False)
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
        """Tokens of parts that stand inside a text, but are encoded without what is before them."""
        for anchor in _ANCHORS:
            encoded = self._backend.encode(anchor + "".join(parts), add_special_tokens=False)
            if not any(start < len(anchor) < end for start, end in encoded.offsets):
                return self._cut([anchor, *parts])[1:]
        return self._cut(parts)


@lru_cache(maxsize=8)
def encoder(tokenizer: Any) -> Encoder:
    """The encoder of a tokenizer, made once: it copies the vocabulary."""
    return Encoder(tokenizer)


def opening(tokenizer: Any) -> list[int]:
    """What the tokenizer itself puts before a text: BOS, or nothing."""
    bare: list[int] = tokenizer.encode(_WORD, add_special_tokens=False)
    whole: list[int] = tokenizer.encode(_WORD)
    starts = range(len(whole) - len(bare) + 1)
    return whole[: next((i for i in starts if whole[i : i + len(bare)] == bare), 0)]


def boundary(tokenizer: Any) -> int:
    """The token before a document's first: BOS, or else EOS (lm-eval's convention, too)."""
    bos = tokenizer.bos_token_id
    return int(tokenizer.eos_token_id if bos is None else bos)


def document_tokens(tokenizer: Any, text: str) -> list[int]:
    """A document as training reads it: after its boundary, and with EOS."""
    return [boundary(tokenizer), *encoder(tokenizer).text(text), tokenizer.eos_token_id]


def opened(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Prompts that are no record's: as transformers and lm-eval encode them, special tokens by name.

    BOS is there once: of the tokenizer, or where the text begins with it.
    """
    encoded = tokenizer(list(texts), add_special_tokens=False)["input_ids"] if texts else []
    before = opening(tokenizer)
    return [ids if ids[: len(before)] == before else [*before, *ids] for ids in encoded]


def continuation(tokenizer: Any, before: Sequence[int], ids: Sequence[int]) -> str:
    """The text that tokens add to those before them, without special tokens."""
    tail = list(before[-TAIL:])
    known: str = tokenizer.decode(tail, skip_special_tokens=True)
    whole: str = tokenizer.decode([*tail, *ids], skip_special_tokens=True)
    if whole.startswith(known):
        return whole[len(known) :]
    alone: str = tokenizer.decode(list(ids), skip_special_tokens=True)
    return alone


def _renamed(backend: Tokenizer, names: Mapping[str, str]) -> Tokenizer:
    """A copy that knows its special tokens by other names, and adds none to a text."""
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
