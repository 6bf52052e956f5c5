"""Rows of real benchmarks are found wherever they were planted, and hardly anything else is."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from support.planted_leaks import FILES, SHAPES, innocent, leaks, long_texts, plant

from engine import BenchmarkTexts, Text
from engine.testing import StandAloneContext, processed


@pytest.fixture(scope="module")
def benchmarks(real_rows, tmp_path_factory) -> list[BenchmarkTexts]:
    """What the evaluators tell of the files' rows."""
    import json

    context, folder = StandAloneContext(), tmp_path_factory.mktemp("rows")
    found = []
    for benchmark, file in FILES:
        rows = folder / f"{file}.jsonl"
        rows.write_text("".join(f"{json.dumps(row)}\n" for row in real_rows(file)))
        evaluator = context.build("evaluator", {"type": benchmark, "rows": str(rows)})
        found.append(BenchmarkTexts(file, tuple(evaluator.texts())))
    return found


def _searched(benchmarks, texts, **fields):
    """Whether each text is flagged."""
    context = StandAloneContext(benchmarks=benchmarks)
    step = context.build("corpus-step", {"type": "decontaminate", **fields})
    records = [Text(id=str(n), source="texts", text=text) for n, text in enumerate(texts)]
    return [one == "contaminated" for one in processed(step, records, parts=3)]


def _planted(real_rows, shapes, every=1):
    """Documents with a leak, in shapes that take turns."""
    drawn, around = random.Random(0), long_texts()
    rows = [leak for benchmark, file in FILES for leak in leaks(benchmark, file, real_rows)]
    return [
        plant(leak, shapes[number % len(shapes)], drawn.choice(around))
        for number, leak in enumerate(rows[::every])
    ]


def _found(planted, flags, wanted=lambda one: True):
    """The share found of the planted documents of some kind, which there are."""
    among = [flag for one, flag in zip(planted, flags, strict=True) if wanted(one)]
    assert len(among) >= 20
    return sum(among) / len(among)


def test_planted_rows_are_found_and_innocent_texts_are_not(benchmarks, real_rows):
    """All from 13 words on, 95 % of shorter ones; 95 % of what is flagged was planted."""
    planted = _planted(real_rows, [shape for shape in SHAPES if shape != "json"], every=4)
    texts = [*(one.text for one in planted), *innocent(real_rows)]
    flags = _searched(benchmarks, texts)
    found, others = flags[: len(planted)], flags[len(planted) :]
    assert _found(planted, found, lambda one: one.leak.words >= 13) == 1
    assert _found(planted, found, lambda one: one.leak.words < 13) >= 0.95
    assert sum(found) >= 0.95 * sum(flags)
    assert len(others) > 1000


@pytest.mark.soak
@pytest.mark.parametrize("shape", SHAPES)
def test_every_row_is_found_in_every_shape(benchmarks, real_rows, shape):
    """Also, but for line breaks that JSON escapes, in files of rows."""
    planted = _planted(real_rows, [shape])
    flags = _searched(benchmarks, [one.text for one in planted])
    least = 0.95 if shape == "json" else 1
    assert _found(planted, flags, lambda one: one.leak.words >= 13) >= least
    assert _found(planted, flags, lambda one: one.leak.words < 13) >= 0.95


def test_the_evaluators_of_real_rows_tell_all_of_them(benchmarks, real_rows):
    """Each with a question and an answer, by the ids of its items."""
    for benchmark, (_, file) in zip(benchmarks, FILES, strict=True):
        assert len(benchmark.items) == len(real_rows(file))
        assert all(item.question and item.answer for item in benchmark.items)
        assert max(Counter(item.id for item in benchmark.items).values()) == 1
