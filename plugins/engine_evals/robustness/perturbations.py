"""Perturbations of a question that keep its answer.

Each is a pure function of a seed and the text, whose hash gives the random numbers. So a question is
changed in the same way in every run and on every process.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import reduce
from operator import getitem
from random import Random
from typing import Any

from engine_evals.benchmarks.row_files import Row

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
    """Adds one typo each to a share of the words with four or more letters.

    A typo swaps two inner letters, or omits, doubles or replaces one by a neighbour on the keyboard;
    first and last letters stay (Pruthi et al. 2019, arXiv:1905.11268, section 3).
    """
    random = _random("typos", seed, text)

    def mistyped(word: re.Match[str]) -> str:
        return _typo(word[0], random) if random.random() < strength else word[0]

    return _LONG_WORD.sub(mistyped, text)


def case(text: str, seed: int, strength: float) -> str:
    """Swaps the case of a share of the letters."""
    random = _random("case", seed, text)
    return "".join(c.swapcase() if random.random() < strength else c for c in text)


def whitespace(text: str, seed: int, strength: float) -> str:
    """Replaces a share of the spaces between words by three spaces or a tab."""
    random = _random("whitespace", seed, text)

    def widened(gap: re.Match[str]) -> str:
        # Not two spaces, which HellaSwag's prompt turns into one, nor a line break, which separates
        # examples.
        return random.choice(("   ", "\t")) if random.random() < strength else gap[0]

    return _GAP.sub(widened, text)


def distracted(text: str, seed: int) -> str:
    """Adds an irrelevant sentence before the text, which misleads models (Shi et al. 2023,
    arXiv:2302.00093).

    Not after it, since many questions begin a sentence that the answer ends.
    """
    return f"{_random('distractor', seed, text).choice(_DISTRACTORS)} {text}"


def reordered(options: list[str], seed: int) -> list[int]:
    """A new order of the options, as positions in the old one. Raises ValueError for fewer than two."""
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
"""Perturbations that change a text by a strength."""


def value(row: Row, field: str) -> Any:
    """A field's value; ``choices.text`` is the field ``text`` of ``choices``."""
    return reduce(getitem, field.split("."), row)


def with_value(row: Row, field: str, new: Any) -> Row:
    """A copy of the row in which the field is ``new``."""
    name, _, inner = field.partition(".")
    return {**row, name: with_value(row[name], inner, new) if inner else new}


def _random(name: str, seed: int, text: str) -> Random:
    return Random(f"{name} {seed} {text}")  # Python seeds from a text by its SHA-512


def _typo(word: str, random: Random) -> str:
    place = random.randrange(1, len(word) - 1)
    left, letter, right = word[:place], word[place], word[place + 1 :]
    variants = [left + right, left + letter + letter + right]
    variants += [left + key + right for key in _NEIGHBOURS.get(letter.lower(), "")]
    if len(right) > 1 and letter != right[0]:
        variants.append(left + right[0] + letter + right[1:])
    return random.choice(variants)
