"""Evaluator `answer-reward`: rewards of a model's own answers, and its divergence, by hand."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass, replace

import pytest
import torch
from engine_inference.language_model import SharedPrefixLM
from pydantic import ValidationError
from support.internals import Process, evaluate

from engine import Prompt, RunError, Text
from engine.testing import StandAloneContext, check_component

WORDS = {"type": "length"}
TENS = {"type": "length", "scale": 10, "weight": 4, "name": "tens"}


@dataclass(frozen=True)
class Asking(StandAloneContext):
    """Holds out the beginnings of texts as prompts."""

    def held_out(self):
        for number, text in enumerate(self.documents[:9]):
            prompt = text[: 6 + number]
            yield Prompt(id=f"prompt-{number}", source="test", prompt=prompt)


@pytest.fixture
def asking(bench):
    """With the bench's other model as the stage `other`, and its own as `self`."""
    return Asking(folders=dict(bench.context.folders))


def _asked(model, context) -> SharedPrefixLM:
    """As the engine opens models that it scores."""
    model.set_attn_implementation("sdpa")
    return SharedPrefixLM(model.eval(), context.tokenizer())


@pytest.fixture
def answered(bench, asking):
    """Items, responses and rows of a model by an evaluator."""

    def answer(model=None, context=asking, **fields):
        evaluator = context.build(
            "evaluator", {"type": "answer-reward", "rewards": [WORDS], **fields}
        )
        lm = _asked(model or bench.model(), context)
        items = list(evaluator.items())
        responses = [lm.answer(item.requests) for item in items]
        return evaluator, items, responses, evaluator.score_all(items, responses)

    return answer


def test_contract(asking):
    fields = {"rewards": [WORDS, TENS], "costs": [WORDS], "reference": "other", "answer_tokens": 8}
    check_component("evaluator", {"type": "answer-reward", **fields}, asking)


@pytest.mark.covers("evaluator/answer-reward.rewards", "evaluator/answer-reward.costs")
def test_rewards_by_hand(answered):
    """Words of the answers that were given; the sum is weighted, costs are apart with their weights."""
    costs = [{**WORDS, "weight": 2}]
    evaluator, _, responses, rows = answered(rewards=[WORDS, TENS], costs=costs)
    words = [len(one.text.split()) for (one,) in responses]
    assert len(set(words)) > 2
    assert [row["reward"] for row in rows] == pytest.approx([n + 4 * n / 10 for n in words])
    assert [row["reward/tens"] for row in rows] == pytest.approx([n / 10 for n in words])
    assert [row["cost/length"] for row in rows] == [2 * n for n in words]
    assert [row["answer_tokens"] for row in rows] == [one.tokens for (one,) in responses]
    assert [row["ended"] for row in rows] == [one.ended for (one,) in responses]
    found = {score.metric: score for score in evaluator.summarise(rows)}
    assert found["reward"].value == pytest.approx(1.4 * statistics.fmean(words))
    assert found["reward"].stderr == pytest.approx(1.4 * statistics.stdev(words) / math.sqrt(9))
    assert found["reward"].higher_is_better
    assert not found["cost/length"].higher_is_better
    (alone, *_), *_ = answered()[3], None
    assert set(alone) == {"reward", "answer_tokens", "ended"}


def _logprob(model, prompt, answer) -> float:
    """log P of an answer's ids, from all logits of one row."""
    with torch.no_grad():
        logits_TV = model(input_ids=torch.tensor([[*prompt, *answer]])).logits[0].double()
    places = torch.arange(len(prompt) - 1, len(prompt) + len(answer) - 1)
    return float(logits_TV.log_softmax(-1)[places, torch.tensor(answer)].sum())


@pytest.mark.covers("evaluator/answer-reward.reference")
def test_divergence_by_hand(bench, asking, answered):
    """log π − log π_ref over the answer's ids, EOS among them, from whole rows of logits."""
    policy, eos = bench.model(), asking.tokenizer().eos_token_id
    policy.lm_head.bias = torch.nn.Parameter(torch.zeros(policy.config.vocab_size))
    policy.lm_head.bias.data[eos] = 3  # comes in some of the answers
    evaluator, items, responses, rows = answered(policy, reference="other", answer_tokens=20)
    assert 0 < sum(row["ended"] for row in rows) < 9
    other = asking.artifact("other").model().eval()
    for item, (one,), row in zip(items, responses, rows, strict=True):
        prompt = asking.tokenizer().encode(item.data.prompt, add_special_tokens=False)
        assert (one.ids[-1] == eos) == one.ended
        wanted = _logprob(policy, prompt, one.ids) - _logprob(other, prompt, one.ids)
        assert row["kl"] == pytest.approx(wanted, abs=2e-4)
        assert abs(row["kl"]) > 1e-2
    kl = next(score for score in evaluator.summarise(rows) if score.metric == "kl")
    assert kl.value == pytest.approx(statistics.fmean(row["kl"] for row in rows))
    assert not kl.higher_is_better


def test_a_model_does_not_diverge_from_itself(asking, answered):
    """Not by one ten-thousandth of a nat, and no error is left."""
    same = asking.artifact("other").model().eval()
    evaluator, _, _, rows = answered(same, reference="other")
    assert [row["kl"] for row in rows] == [0.0] * 9
    (kl,) = (score for score in evaluator.summarise(rows) if score.metric == "kl")
    assert (kl.value, kl.stderr) == (0.0, 0.0)


@pytest.mark.covers("evaluator/answer-reward.answer_tokens", "evaluator/answer-reward.temperature")
def test_how_answers_are_sampled(asking, answered):
    """At most so long; the same whenever asked; at temperature 0 whatever the seed."""
    _, _, long, _ = answered(answer_tokens=20)
    _, _, short, rows = answered(answer_tokens=5)
    assert max(row["answer_tokens"] for row in rows) == 5
    assert [a.ids[:5] for (a,) in long] == [b.ids for (b,) in short]
    reseeded = replace(asking, seed=1)
    _, _, others, _ = answered(context=reseeded, answer_tokens=5)
    assert [b.ids for (b,) in others] != [b.ids for (b,) in short]
    _, items, cold, _ = answered(answer_tokens=5, temperature=0)
    _, _, again, _ = answered(context=reseeded, answer_tokens=5, temperature=0)
    assert [b.ids for (b,) in cold] == [b.ids for (b,) in again]
    assert len({item.requests[0].seed for item in items}) == 9


def test_a_divergence_is_of_the_model_as_it_is(asking):
    """Samples at another temperature are not the model's."""
    fields = {"type": "answer-reward", "rewards": [WORDS], "reference": "other"}
    with pytest.raises(ValidationError, match=r"sampled at temperature 1, not 0\.5; leave out"):
        asking.build("evaluator", {**fields, "temperature": 0.5})


def test_rows_come_together(bench, asking, monkeypatch):
    """A run of the evaluator asks the reference once for all items, and says what each alone says."""
    fields = {"rewards": [WORDS], "reference": "other"}
    evaluator = asking.build("evaluator", {"type": "answer-reward", **fields})
    lm = _asked(bench.model(), asking)
    items = list(evaluator.items())
    alone = [evaluator.score(item, lm.answer(item.requests)) for item in items]
    asked = []
    original = SharedPrefixLM.logprobs
    monkeypatch.setattr(
        SharedPrefixLM,
        "logprobs",
        lambda self, rows, *a, **k: asked.append(len(rows)) or original(self, rows, *a, **k),
    )
    scores = {score.metric: score for score in evaluate(evaluator, lm, Process()).scores}
    assert asked == [9]
    for name, score in scores.items():
        assert score.value == pytest.approx(statistics.fmean(r[name] for r in alone), abs=2e-4)


def test_gains_are_of_pairs(answered):
    """More reward, and less of a cost: means of the differences, with the error of those."""
    evaluator, _, _, _ = answered(costs=[WORDS])
    base = [{"reward": n % 3, "cost/length": 9.0 + n % 2} for n in range(30)]
    gained = [1.0 + 0.1 * (n % 5) for n in range(30)]
    new = [
        {"reward": old["reward"] + by, "cost/length": old["cost/length"] - 2 * by}
        for old, by in zip(base, gained, strict=True)
    ]
    gain, saved = evaluator.compare(new, base)
    assert (gain.metric, saved.metric) == ("gain", "saved/length")
    error = statistics.stdev(gained) / math.sqrt(30)
    for score, factor in ((gain, 1), (saved, 2)):
        assert score.value == pytest.approx(factor * statistics.fmean(gained))
        assert score.stderr == pytest.approx(factor * error)
        assert (score.n, score.higher_is_better) == (30, True)


def test_what_cannot_be_asked_is_said(bench, asking, tmp_path):
    """No prompts; a reference that reads other ids."""

    class Texts(StandAloneContext):
        def held_out(self):
            yield Text(id="a", source="test", text="a")

    fields = {"type": "answer-reward", "rewards": [WORDS]}
    with pytest.raises(RunError, match="no held-out record has a prompt; let `data` name a train"):
        list(Texts().build("evaluator", fields).items())
    other = asking.build("tokenizer", {"type": "bpe", "vocab_size": 300})(asking.documents)
    artifact = asking.artifact("other")
    type(artifact).save(tmp_path / "x", artifact.model(), bench.model().state_dict().items(), other)
    foreign = replace(asking, folders={"x": tmp_path / "x"})
    with pytest.raises(RunError, match="reference 'x' has another tokenizer than the model"):
        foreign.build("evaluator", {**fields, "reference": "x"})


@pytest.mark.covers("evaluator/answer-reward.every", "evaluator/answer-reward.limit")
def test_during_training_and_after(stage, animals, run_here):
    """Every other step of four by some of the prompts; then beside the model that it started as."""
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in animals]
    asks = {"type": "answer-reward", "rewards": [WORDS], "reference": "base", "answer_tokens": 6}
    spec = stage(
        {"type": "sft", "packing": False},
        rows,
        holdout=0.4,
        budget="4 steps",
        evaluate=[{**asks, "every": "2 steps", "limit": 3}],
    )
    spec["stages"]["scores"] = {
        "evaluate": {
            "models": ["base", "learned"],
            "baseline": "base",
            "data": "learned",
            "evaluators": [{**asks, "costs": [WORDS]}],
        }
    }
    scores = run_here(spec).events("score")
    during = [e for e in scores if e["stage"] == "learned" and e["metric"] == "reward"]
    assert [(e["step"], e["n"]) for e in during] == [(2, 3), (4, 3)]
    after = {(e["model"], e["metric"]): e for e in scores if e["stage"] == "scores"}
    assert after["base", "kl"]["value"] == 0
    assert after["learned", "kl"]["value"] > 0
    both = [after[model, "reward"]["value"] for model in ("base", "learned")]
    assert after["learned", "gain_over_base"]["value"] == pytest.approx(both[1] - both[0])
    assert after["learned", "saved/length_over_base"]["value"] == pytest.approx(both[0] - both[1])
