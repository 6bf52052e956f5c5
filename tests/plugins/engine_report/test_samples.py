"""What a model writes at each checkpoint is in the log, with its step."""

from __future__ import annotations

import pytest
from engine_report.config import Samples
from engine_report.samples import SamplesEvaluator
from support import runs

from engine import Response, read_run
from engine.testing import StandAloneContext, check_component

PROMPTS = ["the cat", "one small"]


@pytest.mark.parametrize("options", [{}, {"temperature": 1.0, "max_tokens": 3}, {"chat": True}])
def test_the_contract_is_kept(options):
    """Of evaluators, by the kit."""
    check_component("evaluator", {"type": "samples", "prompts": PROMPTS, **options})


@pytest.mark.covers(
    *(f"evaluator/samples.{name}" for name in ("prompts", "max_tokens", "temperature", "every"))
)
def test_texts_of_every_checkpoint(tiny_spec, run_here):
    """The same prompts at the interval and at the end, no longer than asked, without a warning; of a
    resumed run each step once."""
    samples = {"type": "samples", "prompts": PROMPTS, "max_tokens": 5, "every": "2 steps"}
    warm = {**samples, "name": "warm", "temperature": 2.0, "every": "100 steps"}
    tiny_spec["stages"]["base"]["train"]["evaluate"] = [samples, warm]
    folder = run_here(tiny_spec).folder
    told = [e for e in read_run(folder).stages["base"].events if e["event"] == "sample"]
    cold = [(e["step"], e["prompt"]) for e in told if e["evaluator"] == "samples"]
    assert cold == [(step, prompt) for step in (2, 4, 6) for prompt in PROMPTS]
    assert all(0 < len(e["text"].encode()) <= 5 * 12 for e in told)
    last = {(e["evaluator"], e["prompt"]): e["text"] for e in told}
    assert last["samples", PROMPTS[0]] != last["warm", PROMPTS[0]]
    assert runs.events(folder, "warning") == []
    scores = {s["metric"]: s for s in read_run(folder).stages["base"].scores}
    assert (scores["tokens"]["value"], scores["tokens"]["interval"]) == (5, [5, 5])


@pytest.mark.covers("evaluator/samples.limit")
def test_texts_of_an_evaluate_stage(tiny_spec, run_here):
    """Have the model's name, and no step; the limit is one of prompts."""
    samples = {"type": "samples", "prompts": PROMPTS, "max_tokens": 2, "limit": 1}
    tiny_spec["stages"]["asked"] = {"evaluate": {"models": ["base"], "evaluators": [samples]}}
    (told,) = run_here(tiny_spec).events("sample", stage="asked")
    assert (told["model"], told["step"], told["prompt"]) == ("base", None, PROMPTS[0])


@pytest.mark.covers("evaluator/samples.chat")
def test_prompts_as_messages():
    """By the model's chat template; without one the text alone."""
    context = StandAloneContext()
    tokenizer = context.tokenizer()
    tokenizer.chat_template = None
    plain = SamplesEvaluator(Samples(prompts=("the cat",), chat=True), context)
    ((request,),) = [item.requests for item in plain.items()]
    assert tokenizer.decode(request.prompt).endswith("the cat")
    tokenizer.chat_template = "{% for m in messages %}{{ m.role }}: {{ m.content }};{% endfor %}me:"
    ((request,),) = [item.requests for item in plain.items()]
    assert tokenizer.decode(request.prompt).endswith("user: the cat;me:")


def test_repetition_is_the_share_of_repeated_4_grams():
    """Over all texts: of nine 4-grams in two texts three have been there before in their own."""
    evaluator = SamplesEvaluator(Samples(prompts=("a", "b")), StandAloneContext())
    texts = [(1, 2) * 4 + (9,), (1, 2, 3, 4, 5, 6)]
    rows = [
        evaluator.score(item, [Response(text="x", ids=ids, tokens=len(ids))])
        for item, ids in zip(evaluator.items(), texts, strict=True)
    ]
    repeated, length = evaluator.summarise(rows)
    assert [row["grams"] for row in rows] == [6, 3]
    assert [row["repeated"] for row in rows] == [3, 0]
    assert (repeated.value, length.value) == (pytest.approx(3 / 9), 7.5)
    low, high = repeated.interval
    assert 0 <= low < repeated.value < high <= 1
    (alone,) = [s for s in evaluator.summarise(rows[1:]) if s.metric == "repeated_4grams"]
    assert (alone.value, alone.stderr, alone.interval) == (0, None, None)


def test_texts_that_are_too_short_to_repeat():
    """Have no repetition rather than a division by zero."""
    evaluator = SamplesEvaluator(Samples(prompts=("a",)), StandAloneContext())
    (item,) = evaluator.items()
    row = evaluator.score(item, [Response(text="x", ids=(1,), tokens=1)])
    assert [score.value for score in evaluator.summarise([row])] == [0, 1]
