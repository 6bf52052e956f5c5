"""A search for tokens that make a wrong answer the likeliest."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch
from engine_evals.config import Adversarial
from engine_evals.robustness import gradient_attack
from engine_evals.robustness.adversarial import build
from engine_evals.robustness.gradient_attack import Attack
from engine_inference.language_model import SharedPrefixLM
from support.internals import Artifact

from engine import LogLikelihood

FIELDS = ("benchmark", "tokens", "steps", "candidates", "seed", "shots", "rows", "limit", "every")
ATTACK = Attack("", "the cat sat on", " a mat", (" one chair", " seven"), steps=4, candidates=16)


@pytest.fixture(scope="module")
def lm(finished_run):
    artifact = Artifact(finished_run / "base" / "final")
    return SharedPrefixLM(artifact.model(), artifact.tokenizer(), context=512)


def _margin(lm, before):
    asked = [LogLikelihood(before + ATTACK.after, a) for a in (ATTACK.right, *ATTACK.wrong)]
    right, *wrong = (r.logprob for r in lm.loglikelihoods(asked))
    return right - max(wrong)


def test_the_text_found_does_what_is_said_of_it(lm):
    """Its margin is that of the same text asked plainly, below the one without it; and repeats."""
    (found,) = lm.answer([ATTACK])
    assert found.text
    assert found.logprob == pytest.approx(_margin(lm, found.text), abs=1e-4)
    assert found.logprob < _margin(lm, "")
    assert lm.answer([ATTACK]) == [found]


def test_gradients_find_more_than_chance_does(taught, monkeypatch):
    """With the slopes replaced by noise, as many tries get less far by a tenth, over ten seeds of ten
    steps: of a model that has learnt, as one that has not has no slopes to speak of. After 600 steps
    they get half as far, after 150 the order of documents decides."""
    artifact = Artifact(taught(600, 1e-2))
    lm = SharedPrefixLM(artifact.model(), artifact.tokenizer(), context=512)
    attacks = [replace(ATTACK, seed=seed, steps=10) for seed in range(10)]
    guided = sum(r.logprob for r in lm.answer(attacks))
    noise = torch.Generator().manual_seed(0)

    def slopes(lm, request, found):
        return torch.rand(len(found), len(lm.tokenizer), generator=noise)

    monkeypatch.setattr(gradient_attack, "_falls", slopes)
    chance = sum(r.logprob for r in lm.answer(attacks))
    assert 0 < guided < 0.9 * chance


def test_a_long_beginning_is_cut(lm):
    """The gradient is taken of no more tokens than the model's context has."""
    short, before = SharedPrefixLM(lm.model, lm.tokenizer, context=24), "one small grey mouse " * 20
    read = []
    hook = lm.model.base_model.register_forward_pre_hook(
        lambda module, args, kwargs: read.append(kwargs), with_kwargs=True
    )
    try:
        (found,) = short.answer([replace(ATTACK, before=before)])
    finally:
        hook.remove()
    assert found.logprob == pytest.approx(_margin(short, before + found.text), abs=1e-4)
    assert max(k["inputs_embeds"].shape[1] for k in read if "inputs_embeds" in k) <= 24


def test_weights_get_no_gradient(lm):
    """The search leaves the model as it was."""
    lm.answer([ATTACK])
    assert all(p.grad is None for p in lm.model.parameters())


@pytest.fixture
def rows(tmp_path):
    file = tmp_path / "rows.jsonl"
    row = {"question": "What sat on a mat?", "choices": ["cat", "mouse", "chair", "seven"]}
    lines = [json.dumps({**row, "subject": "astronomy", "answer": i}) for i in range(4)]
    file.write_text("\n".join(lines), encoding="utf-8")
    return str(file)


@pytest.mark.covers(*(f"evaluator/adversarial.{field}" for field in FIELDS))
def test_a_spec_s_fields(rows, tiny_spec, run_here):
    """Each decides what is asked, or when."""
    fields = {"benchmark": "mmlu", "rows": rows}
    wanted = {"tokens": 3, "steps": 2, "candidates": 7, "seed": 9, "shots": 1}
    (item, *_) = build(Adversarial(**fields, **wanted), None).items()
    *plain, search = item.requests
    assert len(plain) == 4
    assert search.before.count("Answer:") == 1
    assert search.before + search.after == plain[0].context
    assert (search.tokens, search.steps, search.candidates, search.seed) == (3, 2, 7, 9)
    evaluator = {"type": "adversarial", **fields, **wanted, "limit": 2, "every": "4 steps"}
    tiny_spec["stages"]["base"]["train"]["evaluate"] = [evaluator]
    scores = run_here(tiny_spec).events("score")
    assert {(e["step"], e["n"]) for e in scores} == {(4, 2), (6, 2)}
    last = {e["metric"]: e["value"] for e in scores}
    assert last["acc_drop/adversarial"] == pytest.approx(last["acc"] - last["acc/adversarial"])


@pytest.mark.parametrize(
    ("benchmark", "told"),
    [
        ("gsm8k", "no multiple-choice benchmark 'gsm8k'; there are arc-challenge"),
        ("winogrande", "the choices of winogrande do not end its prompts"),
    ],
)
def test_benchmarks_without_ends_to_choose_from(benchmark, told):
    """Are an error of the spec."""
    with pytest.raises(ValueError, match=told):
        Adversarial(benchmark=benchmark)
