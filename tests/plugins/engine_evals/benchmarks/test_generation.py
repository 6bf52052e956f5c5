"""Generated answers are compared by text or by value, and nothing that a model writes stops a run."""

from __future__ import annotations

import os
import time

import pytest
from engine_evals.benchmarks.math_matching import Judge

from engine import Response, RunError

TYPES = (
    "mmlu hellaswag commonsense-qa arc-easy arc-challenge piqa winogrande boolq openbook-qa "
    "social-iqa truthful-qa gsm8k math"
).split()


def test_scores_have_standard_errors_and_rows_what_was_extracted(evaluator, folder):
    """gsm8k by its two rules."""
    benchmark = evaluator("gsm8k", rows=str(folder))
    items = list(benchmark.items())
    texts = ["It is 4*5=20\n#### 20", "1+3 is 4"]
    rows = [
        benchmark.score(item, [Response(text=text, tokens=5)])
        for item, text in zip(items, texts, strict=True)
    ]
    assert rows[0]["exact_match_extracted"] == "20"
    assert rows[1]["exact_match_extracted"] == "[invalid]"
    assert rows[1]["exact_match_flexible_extracted"] == "4"
    strict, flexible = benchmark.summarise(rows)
    assert (strict.metric, strict.value, strict.stderr, strict.n) == ("exact_match", 0.5, 0.5, 2)
    assert (flexible.metric, flexible.value) == ("exact_match_flexible", 1.0)


def test_an_answer_that_never_ends_and_a_prompt_that_is_cut_are_counted(evaluator, folder):
    """They are scored all the same."""
    benchmark = evaluator("gsm8k", rows=str(folder))
    items = list(benchmark.items())
    assert items[0].requests[0].max_tokens == 256
    endless = Response(text="20 " * 256, tokens=256, truncated=True)
    rows = [benchmark.score(items[0], [endless]), benchmark.score(items[1], [Response(text="4")])]
    scores = {score.metric: score.value for score in benchmark.summarise(rows)}
    assert scores == {
        "exact_match": 0.0,
        "exact_match_flexible": 1.0,
        "unfinished": 1,
        "truncated": 1,
    }


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        (r"\boxed{\frac12}", "so it is $0.5$", True),
        (r"\boxed{\frac{1}{2}}", r"\boxed{\frac12}", True),
        (r"\boxed{2\sqrt{3}}", r"$\sqrt{12}$", True),
        (r"\boxed{(1,2)}", "$(1, 2)$", True),
        (r"\boxed{[2,5)}", "$[2,5)$", True),
        (r"\boxed{[2,5)}", "$[2,5]$", False),
        (r"\boxed{3}", "I do not know", False),
        (r"\boxed{3}", "", False),
    ],
)
def test_answers_are_compared_by_value(gold, answer, same):
    """Whatever the way they are written in."""
    verdict = Judge().compare(gold, answer)
    assert (verdict.same, verdict.undecided) == (same, False)


def test_a_comparison_that_hangs_is_killed_and_the_next_one_is_right():
    """Some powers never end, in C code that hears no alarm: undecided counts as wrong."""
    judge = Judge(seconds=1.0)
    assert judge.compare("$2$", "$2$").same
    started = time.monotonic()
    verdict = judge.compare("$3$", "$1234567^{12345678}$")
    assert verdict.undecided
    assert not verdict.same
    assert time.monotonic() - started < 5
    assert judge.compare("$2$", "$2$").same


def test_an_undecided_row_is_counted(evaluator, folder, monkeypatch):
    """It is wrong, and the figure says that it was not decided."""
    monkeypatch.setattr("engine_evals.benchmarks.generation.Judge", lambda: Judge(seconds=0.5))
    benchmark = evaluator("math", rows=str(folder / "math" / "algebra" / "test.jsonl"))
    item = next(iter(benchmark.items()))
    row = benchmark.score(item, [Response(text="$1234567^{12345678}$", tokens=9)])
    scores = {score.metric: score.value for score in benchmark.summarise([row])}
    assert scores == {"math_verify": 0.0, "undecided": 1}


def test_no_process_is_left_behind():
    """The one that compares ends with its owner."""
    judge = Judge()
    judge.compare("$1$", "$1$")
    process = judge._process
    del judge
    assert process.returncode is not None
    with pytest.raises(ProcessLookupError):
        os.kill(process.pid, 0)


def test_without_math_verify_the_error_says_how_to_get_it(monkeypatch):
    """A process that cannot start is no wrong answer."""
    hidden = "import sys; sys.modules['math_verify'] = None; "
    serve = "from engine_evals.benchmarks.math_matching import _serve; _serve()"
    for code, told in ((hidden + serve, "math_verify"), ("exit(1)", "its process ended")):
        monkeypatch.setattr("engine_evals.benchmarks.math_matching._WORKER", ("-c", code))
        with pytest.raises(RunError, match=rf"{told}.*pip install 'training-engine\[evals\]'"):
            Judge().compare("$1$", "$1$")


def test_real_solutions_have_the_value_of_their_own_answer(evaluator, real_rows, write, tmp_path):
    """All of MATH-500's sample, read as a model's answer, is right."""
    rows = real_rows("math500_sample", 40)
    benchmark = evaluator("math", rows=str(write(tmp_path / "rows.jsonl", rows)))
    scored = [
        benchmark.score(item, [Response(text=row["solution"], tokens=9)])
        for item, row in zip(benchmark.items(), rows, strict=True)
    ]
    assert [row["math_verify"] for row in scored] == [1.0] * 40


@pytest.mark.covers(
    *(f"evaluator/{name}.{field}" for name in TYPES for field in ("every", "limit"))
)
def test_every_benchmark_runs_during_training(tiny_spec, run_here, folder):
    """As often and on as many rows as asked, with a context that is far too short for most."""
    train = tiny_spec["stages"]["base"]["train"]
    common = {"every": "3 steps", "limit": 1, "rows": str(folder)}
    train["evaluate"] = [{"type": name, **common} for name in TYPES]
    train["evaluate"][0]["subjects"] = ["astronomy"]
    train["evaluate"][-1]["rows"] = str(folder / "math" / "algebra" / "test.jsonl")
    found = run_here(tiny_spec).events("score")
    for name in TYPES:
        mine = [event for event in found if event["evaluator"] == name]
        assert sorted({event["step"] for event in mine}) == [3, 6], name
        assert {event["n"] for event in mine} == {1}, name
