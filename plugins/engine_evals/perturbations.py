"""Small changes of a question that leave its answer as it was.

Each is a pure function of a seed and the text: a question is changed alike in every run, on every
process and whatever else is asked. The random numbers come from a hash of both.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import reduce
from operator import getitem
from random import Random
from typing import Any

from engine_evals.rows import Row

_LONG_WORD = re.compile(r"[^\W\d_]{4,}")
_GAP = re.compile(r"(?<=\S) (?=\S)")
_KEYBOARD = ("qwertyuiop", "asdfghjkl", "zxcvbnm")
_NEIGHBOURS = {
    key: row[max(i - 1, 0) : i] + row[i + 1 : i + 2]
    for row in _KEYBOARD
    for i, key in enumerate(row)
}
_DISTRACTORS = (
    "The bakery on the corner opens at seven in the morning.",
    "My neighbour has painted the garden fence green.",
    "The train to the coast was ten minutes late yesterday.",
    "A new bridge across the river was finished last spring.",
    "Two of the chairs in the hall are made of oak.",
    "The library keeps its oldest maps on the second floor.",
    "Her cousin collects stamps from more than thirty countries.",
    "The football match was moved to Sunday afternoon.",
)


def typos(text: str, seed: int, strength: float) -> str:
    """Mistypes a share of the words of four letters or more, once each.

    Of the letters inside a word, two change places, or one is left out, doubled or struck a key
    beside; first and last stay (Pruthi et al. 2019, arXiv:1905.11268, section 3).
    """
    random = _random("typos", seed, text)

    def mistyped(word: re.Match[str]) -> str:
        return _typo(word[0], random) if random.random() < strength else word[0]

    return _LONG_WORD.sub(mistyped, text)


def case(text: str, seed: int, strength: float) -> str:
    """Swaps capitals and small letters in a share of the letters."""
    random = _random("case", seed, text)
    return "".join(c.swapcase() if random.random() < strength else c for c in text)


def whitespace(text: str, seed: int, strength: float) -> str:
    """Makes a share of the spaces between words three spaces or a tab."""
    random = _random("whitespace", seed, text)

    def widened(gap: re.Match[str]) -> str:
        # Two spaces would not do, since HellaSwag's prompt makes one of them; nor would a line
        # break, which parts examples.
        return random.choice(("   ", "\t")) if random.random() < strength else gap[0]

    return _GAP.sub(widened, text)


def distracted(text: str, seed: int) -> str:
    """Puts a sentence that has nothing to do with it before the text.

    Before, since many questions are the beginning of a sentence that the answer ends. That such a
    sentence misleads models is Shi et al. 2023's finding (arXiv:2302.00093).
    """
    return f"{_random('distractor', seed, text).choice(_DISTRACTORS)} {text}"


def reordered(options: list[str], seed: int) -> list[int]:
    """A new order of the options, as positions in the old one. Raises ValueError for fewer than 2."""
    if len(options) < 2:
        raise ValueError(f"options have no order: {options!r}")
    random = _random("option-order", seed, "\n".join(options))
    old = list(range(len(options)))
    new = old.copy()
    while new == old:
        random.shuffle(new)
    return new


TEXT: dict[str, Callable[[str, int, float], str]] = {
    "typos": typos,
    "case": case,
    "whitespace": whitespace,
}
"""Those that change a text by a strength."""


def value(row: Row, field: str) -> Any:
    """A field's value; ``choices.text`` is the field ``text`` of ``choices``."""
    return reduce(getitem, field.split("."), row)


def with_value(row: Row, field: str, new: Any) -> Row:
    """A copy of the row in which the field is ``new``."""
    name, _, inner = field.partition(".")
    return {**row, name: with_value(row[name], inner, new) if inner else new}


def _random(name: str, seed: int, text: str) -> Random:
    return Random(f"{name} {seed} {text}")  # of a text, Python hashes it by SHA-512


def _typo(word: str, random: Random) -> str:
    i = random.randrange(1, len(word) - 1)
    left, letter, right = word[:i], word[i], word[i + 1 :]
    variants = [left + right, left + letter + letter + right]
    variants += [left + key + right for key in _NEIGHBOURS.get(letter.lower(), "")]
    if len(right) > 1 and letter != right[0]:
        variants.append(left + right[0] + letter + right[1:])
    return random.choice(variants)
