"""HumanEval and MBPP: right solutions pass, empty ones do not, and prompts are lm-eval's."""

from __future__ import annotations

import itertools
import json
import math
import sys
from pathlib import Path

import pytest
import yaml
from engine_evals.code_benchmarks.evaluator import pass_at_k
from engine_evals.code_benchmarks.humaneval import HumanEvalEvaluator
from engine_evals.code_benchmarks.mbpp import MbppEvaluator
from engine_evals.config import HumanEval, Mbpp
from engine_evals.sandbox import bubblewrap, landlock
from engine_evals.sandbox.sandbox import Sandbox
from jinja2 import Template
from pydantic import ValidationError

from engine import Response, RunError

TASKS = {"humaneval": (HumanEvalEvaluator, HumanEval), "mbpp": (MbppEvaluator, Mbpp)}


SOLUTION = {"humaneval": "canonical_solution", "mbpp": "code"}


def fields(*names):
    return pytest.mark.covers(*(f"evaluator/{task}.{name}" for task in TASKS for name in names))


def function(i: int) -> dict:
    """A row in HumanEval's shape."""
    return {
        "task_id": f"HumanEval/{i}",
        "prompt": f'import math\n\n\ndef add{i}(x):\n    """ Add {i} to x. """\n',
        "canonical_solution": f"    return x + {i}\n",
        "test": f"def check(candidate):\n    assert candidate(math.floor(1.5)) == {i + 1}\n",
        "entry_point": f"add{i}",
    }


def task(i: int, **more) -> dict:
    """A row in full MBPP's shape."""
    return {
        "task_id": i,
        "text": f"Write a function to add {i}.",
        "code": f"def add(x):\n  return x + {i}",
        "test_list": [f"assert add({x}) == {x + i}" for x in range(3)],
        "test_setup_code": "",
        "challenge_test_list": [],
        **more,
    }


@pytest.fixture(scope="module")
def _sandboxed() -> None:
    try:
        Sandbox(tiers=["bubblewrap"])
    except RunError as error:
        pytest.skip(f"no bubblewrap here: {error}")


@pytest.fixture
def make(_sandboxed, tmp_path):
    """An evaluator over rows of its own; MBPP's examples have ids from 1."""

    def evaluator(name, rows=None, examples=(), *, unsandboxed=False, **fields):
        splits = {"test": rows or [TASK[name](i) for i in range(20, 24)], "prompt": examples}
        (tmp_path / name).mkdir(exist_ok=True)
        for split, found in splits.items():
            text = "".join(json.dumps(row) + "\n" for row in found)
            if found:
                (tmp_path / name / f"{split}.jsonl").write_text(text, encoding="utf-8")
        kind, config = TASKS[name]
        fields = {"rows": str(tmp_path), **fields}
        return kind(config(**fields), unsandboxed=unsandboxed)

    return evaluator


TASK = {"humaneval": function, "mbpp": task}


def answered(evaluator, answers):
    """The scores by metric where item i is answered by ``answers[i]``, a text per sample."""
    rows = [
        evaluator.score(item, [Response(text=text) for text in texts])
        for item, texts in zip(evaluator.items(), answers, strict=True)
    ]
    return {score.metric: score for score in evaluator.summarise(rows)}


@pytest.mark.parametrize("name", TASKS)
def test_prompts_and_stops_are_lm_evals(name, make):
    """Rendered from the task descriptions that lm-eval comes with."""
    lm_eval = pytest.importorskip("lm_eval")
    told = Path(lm_eval.__file__).parent / "tasks" / name / f"{name}.yaml"
    described = yaml.load(
        told.read_text(encoding="utf-8").replace("!function ", ""), yaml.SafeLoader
    )

    def rendered(field, row, **more):
        return Template(described[field], keep_trailing_newline=True).render(**row, **more)

    examples = [task(i) for i in range(1, 6)] if name == "mbpp" else ()
    row = TASK[name](30)
    shots = "".join(
        rendered("doc_to_text", e) + rendered("doc_to_target", e, is_fewshot=True) + "\n\n"
        for e in examples[1:4]
    )
    (item,) = make(name, [row], examples).items()
    (request,) = item.requests
    assert described["num_fewshot"] == (3 if examples else 0)
    assert request.prompt == shots + rendered("doc_to_text", row)
    assert list(request.stop) == described["generation_kwargs"]["until"]
    assert request.max_tokens == described["generation_kwargs"].get("max_gen_toks", 256)
    assert request.temperature == 0.0


@pytest.mark.parametrize("name", TASKS)
@fields("shots", "rows")
def test_examples_are_other_rows_with_their_answers(name, make, tmp_path, caplog):
    """As many as asked for, from the file's own rows where it has no others."""
    first, second, *_ = make(name, shots=2).items()
    file = str(tmp_path / name / "test.jsonl")
    kind, config = TASKS[name]
    alone = list(kind(config(rows=file, shots=2)).items())
    assert [i.requests for i in alone[:2]] == [first.requests, second.requests]
    prompt = alone[0].requests[0].prompt
    assert "x + 20" not in prompt
    assert "x + 21" in prompt
    assert "x + 22" in prompt
    assert "x + 23" not in prompt
    (none, *_) = kind(config(rows=file, shots=0)).items()
    assert "x + " not in none.requests[0].prompt
    assert ("examples are taken from the scored rows" in caplog.text) == (name == "mbpp")


@fields("samples", "temperature", "k")
@pytest.mark.parametrize("name", TASKS)
def test_pass_at_k_of_several_samples(name, make):
    """A request per sample, each with a seed that no other of any row has: samples of two rows are not
    drawn by the same numbers. A metric for each k, over rows."""
    evaluator = make(name, samples=4, temperature=0.2, k=(1, 2), shots=0)
    items = list(evaluator.items())
    for item in items:
        assert len(item.requests) == 4
        assert {(r.temperature, r.top_p) for r in item.requests} == {(0.2, 0.95)}
    seeds = [request.seed for item in items for request in item.requests]
    assert len(set(seeds)) == len(seeds) == 16
    assert seeds == [r.seed for item in evaluator.items() for r in item.requests]
    answers = [
        [item.data[SOLUTION[name]]] * c + ["    return None"] * (4 - c)
        for item, c in zip(items, (0, 1, 2, 4), strict=True)
    ]
    scores = answered(evaluator, answers)
    assert scores["pass@1"].value == pytest.approx((0 + 1 / 4 + 2 / 4 + 1) / 4)
    assert scores["pass@2"].value == pytest.approx((0 + 1 / 2 + 5 / 6 + 1) / 4)
    assert scores["pass@2"].n == 4
    values = [0, 1 / 2, 5 / 6, 1]
    mean = sum(values) / 4
    error = math.sqrt(sum((v - mean) ** 2 for v in values) / 3 / 4)
    assert scores["pass@2"].stderr == pytest.approx(error)
    assert scores["run in bubblewrap"].value == 1.0


def test_pass_at_k_is_the_share_of_draws_with_a_right_one():
    """Counted over all ways to draw k of n samples."""
    for n, c in ((5, 0), (5, 2), (6, 5), (4, 4)):
        for k in range(1, n + 1):
            draws = list(itertools.combinations([1] * c + [0] * (n - c), k))
            assert pass_at_k(n, c, k) == pytest.approx(sum(map(any, draws)) / len(draws))


@pytest.mark.parametrize("name", TASKS)
def test_without_a_sandbox_no_item_is_asked_unless_allowed(name, make, monkeypatch):
    """And the score says that there was none."""
    monkeypatch.setattr(bubblewrap, "installed", list)
    monkeypatch.setattr(landlock, "confined", lambda: [sys.executable, "-c", "raise SystemExit(1)"])
    with pytest.raises(RunError, match=r"bubblewrap is not installed.*--allow code"):
        next(make(name, shots=0).items())
    evaluator = make(name, [TASK[name](7)], unsandboxed=True, shots=0)
    answer = "    return x + 7\n" if name == "humaneval" else "def add(x): return x + 7"
    scores = answered(evaluator, [[answer]])
    assert (scores["pass@1"].value, scores["run in unsandboxed"].value) == (1.0, 1.0)


@pytest.mark.parametrize("name", TASKS)
def test_the_second_tier_is_recorded_with_the_score(name, make, monkeypatch):
    """Where bubblewrap is not there."""
    monkeypatch.setattr(bubblewrap, "installed", list)
    try:
        Sandbox()
    except RunError as error:
        pytest.skip(f"no Landlock here: {error}")
    evaluator = make(name, [TASK[name](7), TASK[name](8)], shots=0)
    rows = [TASK[name](i)[SOLUTION[name]] for i in (7, 9)]
    scores = answered(evaluator, [[row] for row in rows])
    assert (scores["pass@1"].value, scores["run in landlock"].value) == (0.5, 1.0)
    missing = {f"run without a limit on {what}" for what in evaluator._sandbox.missing}
    assert {metric for metric in scores if metric.startswith("run without")} == missing


def test_samples_must_be_enough_and_differ():
    """An estimate of pass@k takes k samples, and greedy ones are all the same."""
    with pytest.raises(ValidationError, match="pass@10 needs at least as many samples"):
        HumanEval(k=(1, 10), samples=5, temperature=0.2)
    with pytest.raises(ValidationError, match="all samples are the same"):
        Mbpp(samples=2)


def test_the_prompts_own_helpers_cannot_be_replaced(make):
    """HumanEval's tests use what the prompt defines, whatever the completion makes of it."""
    row = function(1)
    row["prompt"] = "def double(x):\n    return 2 * x\n\n\n" + row["prompt"]
    row["test"] = "def check(candidate):\n    assert candidate(double(3)) == 7\n"
    evaluator = make("humaneval", [row])
    wrong = "    return 0\ndef double(x):\n    return 3\n"
    assert answered(evaluator, [["    return x + 1\n"]])["pass@1"].value == 1.0
    assert answered(evaluator, [[wrong]])["pass@1"].value == 0.0


def test_mbpp_runs_set_up_code_and_imports(make):
    """Full rows have set-up code, which may use the program's classes; sanitized ones imports."""
    rows = [
        task(
            1,
            code="class Node:\n  def __init__(self, v): self.v = v\ndef value(n): return n.v",
            test_setup_code="root = Node(3)",
            test_list=["assert value(root) == 3"],
        ),
        task(
            2,
            code="def root(x): return x ** 0.5",
            test_imports=["import math"],
            test_list=["assert math.isclose(root(4), 2)"],
        ),
    ]
    del rows[1]["test_setup_code"], rows[1]["challenge_test_list"]
    rows[1]["prompt"] = rows[1].pop("text")
    evaluator = make("mbpp", rows, shots=0)
    assert answered(evaluator, [[row["code"]] for row in rows])["pass@1"].value == 1.0


WRONG = {  # what to make of a row, and what is said then
    "mbpp": [
        ({"test_list": None}, "TypeError: 'test_list' is no list"),
        ({"code": None}, "TypeError: 'code' is no text"),
        ({"code": "def ("}, "SyntaxError: "),
        ({"text": 5}, "TypeError: 'text' is no text"),
        ({"test_list": ["assert len([]) == 0"]}, "LookupError: its tests use nothing"),
        ({"test_setup_code": 1}, "TypeError: "),
    ],
    "humaneval": [
        ({"test": None}, "TypeError: 'test' is no text"),
        ({"test": "def check(:"}, "SyntaxError: "),
        ({"prompt": None}, "TypeError: 'prompt' is no text"),
        ({"entry_point": ["add"]}, "TypeError: 'entry_point' is no text"),
    ],
}


@pytest.mark.parametrize("name", TASKS)
def test_wrong_rows_are_named_counted_and_survived(name, make, caplog):
    """Whatever is wrong with them, the others are scored, and are the examples."""
    right = [TASK[name](i) for i in (20, 21)]
    wrong = [{**right[0], **changed} for changed, _ in WRONG[name]] + [{"prompt": "alone"}]
    evaluator = make(name, [*wrong, *right], shots=1)
    found = list(evaluator.items())
    assert [item.id for item in found] == [str(len(wrong)), str(len(wrong) + 1)]
    assert "x + 21" in found[0].requests[0].prompt
    scores = answered(evaluator, [[row[SOLUTION[name]]] for row in right])
    assert (scores["pass@1"].value, scores["pass@1"].n) == (1.0, 2)
    assert scores["malformed"].value == len(wrong)
    assert f"{len(wrong)} rows cannot be used and are left out; the first is row 0: " in caplog.text
    for changed, told in WRONG[name]:
        with pytest.raises(RunError, match=f"{name}: no row can be used; row 0: {told}"):
            list(make(name, [{**right[0], **changed}], shots=0).items())


def test_rows_of_another_shape_are_named(make):
    """With what is missing, and how to mend it."""
    with pytest.raises(RunError, match=r"mbpp: .*row 0: KeyError: 'test_list'.*on the hub"):
        list(make("mbpp", [{"text": "x", "code": ""}], shots=0).items())


@fields("every", "limit")
def test_both_score_a_model_in_a_run(make, tiny_spec, run_here, tmp_path):
    """During training at their interval, and at most ``limit`` rows."""
    make("humaneval")
    make("mbpp")
    rows = {"rows": str(tmp_path), "shots": 0}
    tiny_spec["stages"]["base"]["train"]["evaluate"] = [
        {"type": "humaneval", **rows, "limit": 2, "every": "3 steps"},
        {"type": "mbpp", **rows, "limit": 3, "every": "4 steps"},
    ]
    found = [
        (e["evaluator"], e["step"], e["n"])
        for e in run_here(tiny_spec).events("score")
        if e["metric"] == "pass@1"
    ]
    assert {(s, n) for name, s, n in found if name == "humaneval"} == {(3, 2), (6, 2)}
    assert {(s, n) for name, s, n in found if name == "mbpp"} >= {(4, 3)}
