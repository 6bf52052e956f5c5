"""Rows of training data, as the model sees them."""

from __future__ import annotations

import json

from engine_tools.rows import _parts

from engine import Preference
from engine.testing import StandAloneContext


def test_data(command, finished_run):
    """Rows as the model sees them, documents parted by a bar; machines read what counts."""
    stage = finished_run / "base"
    out, _ = command("data", stage, "--samples", 20)
    assert "row 0: 32 tokens, 31 count" in out
    assert "┃" in out
    lines = command("data", stage, "--samples", 2, "--start", 1, "--json")[0].splitlines()
    rows = [json.loads(line) for line in lines]
    assert [row["row"] for row in rows] == [1, 2]
    for row in rows:
        assert len(row["tokens"]) == len(row["counted"]) == len(row["positions"]) == 32
        assert sum(row["counted"]) <= 31
        assert row["text"]


def test_what_fills_a_row_up_is_not_shown():
    """Of a pair, the two answers; the shorter one's row has no padding."""
    context = StandAloneContext()
    objective = context.build("objective", {"type": "reward"})
    pair = Preference(id="p", source="s", prompt="ab", chosen="c", rejected="a longer one")
    (example,) = objective.encode(pair, context.tokenizer(), 64)
    shown = [tokens for tokens, _, _ in _parts(example, objective)]
    assert sorted(map(len, shown)) == [2 + 1 + 1, 2 + len("a longer one") + 1]
