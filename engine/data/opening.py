"""What training texts begin with, as a prompt for a person to try."""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from engine.data.examples import TrainingData
from engine.modeling.packing import IGNORE

_LONGEST = 20
"""Characters of a prompt."""
_TOKENS = 12
"""Tokens of a text that is learned from its first on."""
_WORDS = re.compile(r"[^\W_][\w .,:;'!?-]*")
"""Words and what stands between them."""


def opening(data: TrainingData, tokenizer: Any) -> str:
    """The prompt of the first example, or its first words, without the quotes, brackets and the like
    around them; empty if it has none on a line."""
    example, *_ = data.examples(1)
    ids = example.fields.get("input_ids")
    if ids is None:  # of several texts
        return ""
    ids = np.asarray(ids)
    labels = np.asarray(example.fields.get("labels", np.full(len(ids), IGNORE)))
    begins = np.flatnonzero(np.asarray(example.fields.get("position_ids", range(len(ids)))) == 0)
    start = int(begins[-1]) if len(begins) else 0
    learned = np.flatnonzero(labels[start:] != IGNORE)
    prompt = int(learned[0]) + 1 if len(learned) else len(ids)
    end = start + (prompt if prompt > 1 else _TOKENS)
    text = tokenizer.decode(ids[start:end].tolist(), skip_special_tokens=True)
    lines = text.splitlines()
    if prompt <= 1:
        lines = [_words(line) for line in lines if line.isprintable()]
    line = next(filter(str.strip, lines), "")
    if len(line) > _LONGEST:
        line = line[:_LONGEST].rsplit(" ", 1)[0]
    return line if line.isprintable() and "\N{REPLACEMENT CHARACTER}" not in line else ""


def _words(line: str) -> str:
    """The first words of a line of which one has a letter; empty if there are none."""
    return next((words for words in _WORDS.findall(line) if any(map(str.isalpha, words))), "")
