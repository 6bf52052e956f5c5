"""Evaluator `answer-perplexity`: of the tokens that training learns, and compared item by item."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from itertools import pairwise

import pytest
from engine_inference.language_model import SharedPrefixLM
from engine_sft.answer_perplexity import AnswerPerplexityEvaluator

from engine import Chat, Completion, Prompt, RunError
from engine.testing import StandAloneContext, check_component


@dataclass(frozen=True)
class HeldOut(StandAloneContext):
    """A context with records of any kind held out."""

    kept: tuple = ()

    def held_out(self):
        yield from self.kept


def _completions(rows) -> tuple:
    return tuple(
        Completion(id=str(n), source="test", prompt=row["prompt"], completion=row["completion"])
        for n, row in enumerate(rows)
    )


def test_contract(sums):
    check_component(
        "evaluator", {"type": "answer-perplexity"}, HeldOut(kept=_completions(sums[:5]))
    )


@pytest.mark.parametrize("kind", ["completions", "conversations"])
def test_it_is_the_loss_of_what_would_be_learnt(bench, self_instruct, hh, kind):
    """On real records, by the objective's own loss: to 1e-5 nats, over the same tokens."""
    if kind == "completions":
        rows = [r for r in self_instruct if len(r["prompt"]) + len(r["completion"]) < 400][:8]
        objective = bench.objective()
        records = _completions(rows)
    else:
        rows = [r for r in hh if sum(len(m["content"]) + 40 for m in r["messages"]) < 500][:8]
        objective = bench.objective(template="chatml")
        records = tuple(
            Chat(id=str(n), source="test", messages=r["messages"]) for n, r in enumerate(rows)
        )
    model = bench.model().eval()
    wanted = bench.means(objective, model, [objective.collate(bench.encoded(objective, rows))])
    context = HeldOut(kept=records)
    context.__dict__["_tokenizer"] = bench.tokenizer
    evaluator = AnswerPerplexityEvaluator(context)
    lm = SharedPrefixLM(model, bench.tokenizer)
    items = list(evaluator.items())
    scored = [evaluator.score(item, lm.answer(item.requests)) for item in items]
    assert sum(row["tokens"] for row in scored) == wanted.count
    perplexity, nats = evaluator.summarise(scored)
    assert nats.value == pytest.approx(float(wanted.loss), abs=1e-5)
    assert perplexity.value == pytest.approx(math.exp(float(wanted.loss)), rel=1e-5)
    assert (nats.metric, nats.n, nats.higher_is_better) == ("nats_per_token", 8, False)
    assert perplexity.stderr == pytest.approx(perplexity.value * nats.stderr)


def test_messages_left_out_of_training_are_not_asked(bench, talks):
    """By the same word."""
    bench.objective(template="chatml")
    messages = [dict(m, train=i > 1) for i, m in enumerate(talks[0]["messages"])]
    context = HeldOut(kept=(Chat(id="a", source="test", messages=messages),))
    context.__dict__["_tokenizer"] = bench.tokenizer
    (item,) = AnswerPerplexityEvaluator(context).items()
    (request,) = item.requests
    assert bench.tokenizer.decode(request.continuation) == "Then 2, of course.<|endoftext|>"
    assert "1.<|endoftext|>" in bench.tokenizer.decode(request.context)


def test_without_answers_or_a_template_it_says_so(bench, talks):
    """What is missing, and where it comes from."""
    context = HeldOut(kept=(Prompt(id="a", source="test", prompt="What?"),))
    with pytest.raises(RunError, match="no held-out record has an answer; let `data` name a train"):
        list(AnswerPerplexityEvaluator(context).items())
    context = HeldOut(kept=(Chat(id="a", source="test", messages=talks[0]["messages"]),))
    with pytest.raises(RunError, match="the model's tokenizer has no chat template"):
        list(AnswerPerplexityEvaluator(context).items())


def test_a_gain_is_of_pairs(bench):
    """Its interval is that of the differences; with answers of one length, the mean of those."""
    evaluator = AnswerPerplexityEvaluator(HeldOut())
    base = [{"nats": 10.0 + 7 * (n % 3), "tokens": 4} for n in range(30)]
    differences = [1.0 + 0.1 * (n % 5) for n in range(30)]
    tuned = [{**row, "nats": row["nats"] - 4 * d} for row, d in zip(base, differences, strict=True)]
    (gain,) = evaluator.compare(tuned, base)
    assert (gain.metric, gain.n, gain.higher_is_better) == ("gain", 30, True)
    assert gain.value == pytest.approx(statistics.fmean(differences))
    error = statistics.stdev(differences) / math.sqrt(30)
    assert gain.stderr == pytest.approx(error)
    assert gain.interval == pytest.approx((gain.value - 1.96 * error, gain.value + 1.96 * error))
    (alone,) = evaluator.compare(tuned[:1], base[:1])
    assert (alone.stderr, alone.interval) == (None, None)


@pytest.mark.covers(
    "Evaluate.baseline", "evaluator/answer-perplexity.every", "evaluator/answer-perplexity.limit"
)
def test_models_are_compared_on_the_same_held_out_records(stage, run_here, sums, capsys):
    """During training, at its end, and in a stage beside the model that it began with."""
    spec = stage(
        sums,
        holdout=0.4,
        budget="20 steps",
        optimizer={"type": "adamw", "lr": 1e-2},
        evaluate=[{"type": "answer-perplexity", "every": "8 steps", "limit": 3}],
    )
    spec["stages"]["gain"] = {
        "evaluate": {
            "models": ["tuned", "base"],
            "baseline": "base",
            "data": "tuned",
            "evaluators": [{"type": "answer-perplexity", "limit": 15}],
        }
    }
    run = run_here(spec)
    scores = run.events("score")
    during = [e for e in scores if e["stage"] == "tuned" and e["metric"] == "perplexity"]
    assert [(e["step"], e["n"]) for e in during] == [(8, 3), (16, 3), (20, 3)]
    assert all(a["value"] > b["value"] for a, b in pairwise(during))
    after = {(e["model"], e["metric"]): e for e in scores if e["stage"] == "gain"}
    nats = {model: after[model, "nats_per_token"]["value"] for model in ("base", "tuned")}
    assert next(iter(after))[0] == "base"  # whatever the order in the spec
    gain = after["tuned", "gain_over_base"]
    assert gain["value"] == pytest.approx(nats["base"] - nats["tuned"])
    assert gain["n"] == 15
    low, high = gain["interval"]
    assert 0 < low < gain["value"] < high
    assert ("base", "gain_over_base") not in after


def test_a_baseline_is_one_of_the_models(stage, write_spec, engine, sums):
    """And an evaluator that cannot compare gives no such score."""
    spec = stage(sums)
    spec["stages"]["gain"] = {
        "evaluate": {
            "models": ["base"],
            "baseline": "bsae",
            "data": "corpus",
            "evaluators": ["perplexity"],
        }
    }
    told = engine("validate", write_spec(spec), status=2).stderr
    assert "baseline 'bsae' is not one of the models base" in " ".join(told.split())


def test_evaluators_that_cannot_compare_give_no_gain(stage, run_here, sums):
    """The others' scores are as without a baseline."""
    spec = stage(sums)
    spec["stages"]["gain"] = {
        "evaluate": {
            "models": ["base", "tuned"],
            "baseline": "base",
            "data": "corpus",
            "evaluators": ["perplexity"],
        }
    }
    metrics = [(e["model"], e["metric"]) for e in run_here(spec).events("score")]
    assert metrics == [(m, n) for m in ("base", "tuned") for n in ("perplexity", "bits_per_byte")]
