"""Perplexity and bits per byte are what their definitions say."""

from __future__ import annotations

import math

import pytest
import torch
from engine_lm.perplexity import PerplexityEvaluator
from engine_lm.training_config import Perplexity
from support.internals import Artifact, held_out


def _scores(run, metric):
    return [e for e in run.events("score") if e["metric"] == metric]


def test_perplexity_is_computed_from_the_models_own_logits(tiny_spec, run_here):
    """exp of the mean −log P over all held-out tokens; its bits over all held-out bytes."""
    tiny_spec["stages"]["base"]["train"]["precision"] = "fp32"
    run = run_here(tiny_spec)
    artifact = Artifact(run.folder / "base" / "final")
    model, tokenizer = artifact.model(), artifact.tokenizer()
    nats, tokens, size = 0.0, 0, 0
    for record in held_out(run.folder / "corpus"):
        ids = tokenizer(record.text, add_special_tokens=False)["input_ids"]
        stream = [tokenizer.bos_token_id or tokenizer.eos_token_id, *ids]
        for start in range(0, len(ids), 32):
            end = min(start + 32, len(ids))
            window = torch.tensor(stream[max(0, end - 32) : end + 1])
            with torch.no_grad():
                logits = model(window[None, :-1]).logits[0].double()
            loss = torch.nn.functional.cross_entropy(logits, window[1:], reduction="none")
            nats += float(loss[-(end - start) :].sum())
        tokens += len(ids)
        size += len(record.text.encode())
    (perplexity,), (bits,) = _scores(run, "perplexity"), _scores(run, "bits_per_byte")
    assert perplexity["value"] == pytest.approx(math.exp(nats / tokens), rel=1e-5)
    assert bits["value"] == pytest.approx(nats / math.log(2) / size, rel=1e-5)
    assert perplexity["n"] == bits["n"] == len(list(held_out(run.folder / "corpus")))


@pytest.mark.covers(
    "evaluator/perplexity.every", "evaluator/perplexity.limit", "evaluator/perplexity.stride"
)
def test_it_is_taken_as_often_and_on_as_much_as_asked(tiny_spec, run_here):
    """In steps of training; with a stride every token has more context, so it is easier to guess, for a
    model that has learnt to use it: after 200 steps by 3 to 6 % over three seeds, after 100 not yet."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"budget": "200 steps", "precision": "fp32"}
    train["optimizer"]["lr"] = 5e-3
    train["evaluate"] = [
        {"type": "perplexity", "every": "50 steps"},
        {"type": "perplexity", "limit": 3},
        {"type": "perplexity", "stride": 4},
    ]
    found = _scores(run_here(tiny_spec), "perplexity")
    every, (limited, strided) = found[:-2], found[-2:]
    assert [e["step"] for e in every] == [50, 100, 150, 200]
    assert limited["n"] == 3 < strided["n"]
    assert strided["value"] < 0.995 * every[-1]["value"]


def test_the_standard_error_is_the_ratio_estimators():
    """Over documents, as they and not their tokens were drawn: near the bootstrap's."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(20, 200, (400,), generator=generator).double()
    nats = tokens * (2 + 0.3 * torch.randn(400, generator=generator).double())
    rows = [
        {"logprob": -float(n), "tokens": int(t), "bytes": 4 * int(t)}
        for n, t in zip(nats, tokens, strict=True)
    ]
    evaluator = PerplexityEvaluator(Perplexity(), None)
    perplexity, bits = evaluator.summarise(rows)
    draws = torch.randint(0, 400, (4000, 400), generator=generator)
    means = nats[draws].sum(1) / tokens[draws].sum(1)
    assert perplexity.stderr == pytest.approx(float(means.exp().std()), rel=0.1)
    assert bits.stderr == pytest.approx(float(means.std()) / math.log(2) / 4, rel=0.1)
    assert not perplexity.higher_is_better
    assert not bits.higher_is_better


def test_one_document_has_no_standard_error_and_none_no_score():
    """Rather than a made-up one."""
    evaluator = PerplexityEvaluator(Perplexity(), None)
    (one, _) = evaluator.summarise([{"logprob": -8.0, "tokens": 4, "bytes": 9}])
    assert (one.value, one.stderr, one.n) == (pytest.approx(math.exp(2)), None, 1)
    assert evaluator.summarise([]) == []
