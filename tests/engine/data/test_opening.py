"""What a summary proposes as a prompt."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from engine.contracts.batch import Example
from engine.data.opening import opening

UNLEARNED = -100


class _Letters:
    """Decodes code points."""

    def decode(self, ids, skip_special_tokens):
        assert skip_special_tokens
        return "".join(map(chr, ids))


def _opening(text, learned=0, begins=0, **fields):
    ids = np.array([ord(letter) for letter in text])
    places = np.arange(len(ids))
    fields = {
        "input_ids": ids,
        "labels": np.where(places < learned, UNLEARNED, ids),
        "position_ids": np.where(places < begins, places + 1, places - begins),
        **fields,
    }
    data = SimpleNamespace(examples=lambda count: [Example(len(ids), fields)])
    return opening(data, _Letters())


@pytest.mark.parametrize(
    ("text", "learned", "begins", "found"),
    [
        ("12+34=46", 5, 0, "12+34="),
        ("end. Once upon a time", 0, 5, "Once upon a "),
        ("\n\nimport os\n\n", 0, 0, "import os"),
        ("Why is the sky blue today?", 25, 0, "Why is the sky blue"),
        ('"""Fix it', 0, 0, "Fix it"),
        ("# -*- \n#!/x\n", 0, 0, "x"),
        ("<b>{1}</b>", 0, 0, "b"),
        ("12 34\n{}", 0, 0, ""),
        ("0: cat(x)", 0, 0, "0: cat"),
        ("12 {ab}", 0, 0, "ab"),
        ("\x1b[2J", 0, 0, ""),
        ("\x1b[2J", 5, 0, ""),
    ],
)
def test_a_prompt_is_what_the_first_text_begins_with(text, learned, begins, found):
    """The prompt of an example, or the first words of a text, on one short line."""
    assert _opening(text, learned, begins) == found


def test_an_example_of_several_texts_has_none():
    """As it has tokens of its own."""
    data = SimpleNamespace(examples=lambda count: [Example(8, {"chosen": None, "rejected": None})])
    assert opening(data, _Letters()) == ""
