"""Rewards `answer` and `tests`: answers checked by their records, as the benchmarks check theirs."""

from __future__ import annotations

import json

import pytest
from engine_evals.benchmarks.generation import GenerationTask
from engine_evals.benchmarks.record import standard_record
from engine_evals.rewards.code_tests import code_of

from engine import Response, RunError
from engine.testing import StandAloneContext, check_component

ADD = "def add(a, b):\n    return a + b\n"
PIECES = ["assert add(1, 2) == 3", "assert add(0, 0) == 0", "assert add(5, -5) == 10"]


def reward(kind, **fields):
    return StandAloneContext().build("reward", {"type": kind, **fields})


def scores(kind, pairs, **fields):
    """Of pairs of an answer and what stands in its row's column."""
    column = fields.get("column", kind)
    answers, rows = [answer for answer, _ in pairs], [{column: right} for _, right in pairs]
    (found,) = reward(kind, **fields).score([""] * len(pairs), answers, rows).values()
    return found.tolist()


def wrong(kind, row, **fields):
    """What a reward says of a row before the first step."""
    return StandAloneContext().config("reward", {"type": kind, **fields}).check_row(row)


@pytest.mark.covers("reward/answer.by", "reward/answer.name", "reward/answer.weight")
def test_the_last_number_counts_as_in_gsm8k():
    """Whatever a text is: the benchmark's own flexible verdict; a worked-out answer is one as well."""
    task = GenerationTask(standard_record("gsm8k"))
    worked = "They have 3 + 4 = <<3+4=7>>7 eggs.\n#### 1,007"
    answers = "1007|It is $1,007.|so 1007 eggs|1008|#### 1007 or 7|no|1.007|-1007|1007.|".split("|")
    found = scores("answer", [(answer, worked) for answer in answers], name="eggs")
    for answer, score in zip(answers, found, strict=True):
        row = task.score(worked, [Response(text=answer, tokens=1)])
        assert score == row["exact_match_flexible"], answer
    assert found == [1, 1, 1, 0, 0, 0, 0, 0, 1, 0]


@pytest.mark.parametrize("repeated", [".", ",", "1,", "0", "$", "#### ", "-", " "])
def test_an_answer_that_repeats_itself_takes_no_longer(repeated):
    """A model that writes one token for ever does not end the run by a pattern's limit of time."""
    assert scores("answer", [("It is 1" + repeated * 200_000 + "x", "7")]) == [0]


@pytest.mark.covers("reward/answer.column")
def test_numbers_may_stand_as_numbers():
    """Whole ones also as floats, which is how tables hold a column with gaps."""
    pairs = [("46", 46), ("46", 46.0), ("-3", -3), ("0.5", 0.5), ("46", 4)]
    assert scores("answer", pairs, column="gold") == [1, 1, 1, 1, 0]


def test_values_are_compared_as_mathematics():
    """As `math` does: one half is one half, however it is written."""
    pairs = [(r"so it is $\boxed{\frac{1}{2}}$", "$0.5$"), ("$x + 1$", "$1 + x$"), ("$2$", "$3$")]
    assert scores("answer", pairs, by="value") == [1, 1, 0]


@pytest.mark.covers("reward/tests.column", "reward/tests.name", "reward/tests.weight")
def test_code_must_pass_the_tests_of_its_row():
    """All of them; code may stand in Markdown, and what ends or fails is worth nothing."""
    right, tests = f"Like this:\n```python\n{ADD}```\nDone.", "\n".join(PIECES[:2])
    answers = [ADD, right, "def add(a, b):\n    return a * b\n", "import sys; sys.exit()", ""]
    pairs = [(answer, tests) for answer in answers] + [(ADD, PIECES), (ADD, PIECES[:2])]
    assert scores("tests", pairs, column="checks") == [1, 1, 0, 0, 0, 0, 1]


@pytest.mark.covers("reward/tests.partial")
def test_a_share_of_the_tests_counts_where_asked():
    """Each listed test is run by itself."""
    pairs = [(ADD, PIECES), ("", PIECES), (ADD, PIECES[0])]
    assert scores("tests", pairs, partial=True) == pytest.approx([2 / 3, 0, 1])


@pytest.mark.covers("reward/tests.seconds")
def test_a_program_has_so_long():
    """One that never ends is worth nothing."""
    pairs = [("def add(a, b):\n    while True: pass\n", PIECES[0]), (ADD, PIECES[0])]
    assert scores("tests", pairs, seconds=2) == [0, 1]


def test_the_last_code_is_taken():
    """Also where it was cut off; without any, the whole answer."""
    assert code_of("```py\na\n```\nno:\n```\nb\n```") == "b\n"
    assert code_of("```python\nc = 1") == "c = 1"
    assert code_of("d = 1") == "d = 1"
    assert code_of("```Python3\ne = 1\n```\nDone.") == "e = 1\n"


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        ("answer", None, "is None, neither text nor a number"),
        ("answer", True, "is True, neither"),
        ("answer", float("nan"), "is nan, neither"),
        ("answer", ["7"], "is ['7'], neither"),
        ("answer", " ", "is ' ', neither"),
        ("answer", "seven", "has no number: 'seven'"),
        ("tests", None, "is None, neither code nor a list of it"),
        ("tests", [], "is [], neither"),
        ("tests", ["assert f()", 3], "neither code nor a list"),
        ("tests", "assert f( == 1", "is no Python code: "),
        ("tests", "x = 1\nassert sum([x]) == 1", "tests nothing that an answer defines"),
    ],
)
def test_a_row_that_checks_nothing_is_said(kind, value, said):
    """By column and value, rather than scored 0."""
    told = wrong(kind, {kind: value})
    assert told.startswith(f"column '{kind}' ")
    assert said in told


def test_names_of_the_tests_own_are_not_asked_of_answers():
    """What they import, define or bind is theirs."""
    tests = (
        "import math\nfrom os import path as p\n"
        "class A: pass\ndef check(f, *more, key=None):\n    assert [f(x) for x in (1, 2)]\n"
        "try:\n    check(lambda x: A)\nexcept ValueError as error:\n    print(error, p, math)\n"
    )
    assert "tests nothing" in wrong("tests", {"tests": tests})
    assert wrong("tests", {"tests": f"{tests}check(candidate)"}) is None


@pytest.mark.parametrize("kind", ["answer", "tests"])
def test_contract(kind):
    """Values by answer and row alone."""
    check_component("reward", {"type": kind})


@pytest.mark.parametrize("kind", ["answer", "tests"])
@pytest.mark.parametrize("asked", ["objective", "constraint", "evaluator"])
def test_a_missing_column_is_refused_before_the_first_step(
    kind, asked, tiny_spec, tmp_path, run_here
):
    """With the record's file and line, whoever asks for it."""
    full = {"answer": "2", "tests": "assert f() == 2"}
    rows = [{"prompt": f"{n}+1=", **full} for n in range(12)]
    del rows[6][kind]
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    rewards, constraints, more = [{"type": kind}], [], {}
    if asked != "objective":
        rewards = [{"type": "length"}]
    if asked == "constraint":
        constraints = [{"reward": {"type": kind}}]
    if asked == "evaluator":
        holdout = {"evaluate": [{"type": "answer-reward", "rewards": [{"type": kind}]}]}
        more = {"holdout": 0.9, **holdout}
    tiny_spec["stages"]["solver"] = {
        "train": {
            "data": {"type": "files", "paths": [str(file)], "records": "prompt"},
            "model": "base",
            "objective": {
                "type": "rloo",
                "rewards": rewards,
                "constraints": constraints,
                "answer_tokens": 4,
                "answers": 2,
            },
            "optimizer": {"type": "adamw", "lr": 1e-3},
            "precision": "fp32",
            "batch": {"examples": 1},
            "budget": "1 steps",
            **more,
        }
    }
    said = f"sums.jsonl:7: reward '{kind}' cannot score an answer: no column '{kind}'"
    with pytest.raises(RunError, match=said):
        run_here(tiny_spec)
