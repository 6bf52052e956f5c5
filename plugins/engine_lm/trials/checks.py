"""What is right with a model: its losses, scores and texts are those of its own forward pass.

Each check raises AssertionError for a fault, and EngineError where the engine refuses.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from engine import Generation, LogLikelihood, RunError, parameter_count
from engine.modeling import attend, examine, reads_packed, with_scalar_head
from engine_lm.config import Pretrained
from engine_lm.trials.subject import Subject, save

_LOSS = 1e-5
_GRADIENT = 1e-4
_SMALL = 1e-3
_SCORE = 1e-4
_TIE = 1e-5
_WRITTEN = 24


def counts(subject: Subject) -> str:
    """The parameters that a plan counts are the module's."""
    shape = Pretrained(path=str(subject.folder)).built_shape(None)
    if shape is None:
        raise RunError("`engine plan` does not know its sizes")
    has = sum(p.numel() for p in subject.model().parameters())
    told = parameter_count(shape)
    assert told == has, f"a plan counts {told} parameters, the model has {has}"
    return f"{has} parameters"


def packed(subject: Subject) -> str:
    """Loss and gradients of packed documents are those of each alone."""
    model = subject.model()
    batch = subject.packed()
    found = subject.loss(model, batch)
    found.backward()
    gradients = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    attend(model, "eager")
    total: Any = 0.0
    for ids in subject.documents:
        if len(ids) > 1:
            logits = model(input_ids=ids[None], use_cache=False).logits[0, :-1]
            total = total + torch.nn.functional.cross_entropy(
                logits.float(), ids[1:], reduction="sum"
            )
    total.backward()
    ours, apart = float(found.detach()), float(total.detach())
    error = abs(ours - apart) / abs(apart)
    assert error < _LOSS, f"the packed loss is {ours:.6f}, of each alone {apart:.6f}"
    largest = max(float(p.grad.norm()) for p in model.parameters() if p.grad is not None)
    for name, parameter in model.named_parameters():
        if parameter.grad is None:
            assert name not in gradients or not gradients[name].any(), (
                f"{name} has a gradient only when packed"
            )
            continue
        alone = parameter.grad
        packed_one = gradients.get(name, torch.zeros_like(alone))
        least = (
            _SMALL * largest
        )  # rounding of a small gradient is that of what it is a difference of
        error = float((packed_one - alone).norm()) / max(least, float(alone.norm()))
        assert error < _GRADIENT, f"the gradient of {name} differs by {error:.1e}"
    return "packed rows" if reads_packed(model) else "rows of one document"


@torch.no_grad()
def scores(subject: Subject) -> str:
    """Log-likelihoods are those of one forward pass of the model, with shared beginnings."""
    model = subject.model()
    reference = subject.model()
    attend(reference, "eager")
    attend(model)
    pairs = [
        ("the cat sat", " on a mat"),
        ("the cat sat", " under two chairs"),
        ("one", " grey mouse"),
    ]
    lm = subject.context.language_model(model, subject.context.tokenizer())
    found = lm.loglikelihoods([LogLikelihood(a, b) for a, b in pairs])
    worst = 0.0
    for (start, end), response in zip(pairs, found, strict=True):
        prompt = subject.context.tokenizer().encode(start, add_special_tokens=False)
        whole = subject.context.tokenizer().encode(start + end, add_special_tokens=False)
        logits = reference(input_ids=torch.tensor([whole]), use_cache=False).logits[0].float()
        logprob = logits.log_softmax(-1)
        wanted = sum(float(logprob[i - 1, whole[i]]) for i in range(len(prompt), len(whole)))
        worst = max(worst, abs(wanted - response.logprob))
    assert worst < _SCORE, f"a log-likelihood differs by {worst:.1e}"
    return f"within {worst:.0e}"


@torch.no_grad()
def writes(subject: Subject) -> str:
    """Texts written together are those that ``generate`` writes of each prompt alone, and end before
    what stops them."""
    model, reference = subject.model(), subject.model()
    attend(model)
    attend(reference, "eager")
    tokenizer = subject.context.tokenizer()
    words = "the cat sat on a mat and saw one small grey mouse".split()
    prompts = [" ".join(words[: 1 + n % 5]) + " " * (n // 5) for n in range(8)]
    lm = subject.context.language_model(model, tokenizer)
    found = lm.generations([Generation(p, max_tokens=_WRITTEN) for p in prompts])
    ties = 0
    for prompt, response in zip(prompts, found, strict=True):
        ids = tokenizer.encode(prompt, add_special_tokens=False)
        wanted = greedy(reference, ids, len(response.ids))
        if list(response.ids) != wanted:
            at = next(
                i for i, (a, b) in enumerate(zip(response.ids, wanted, strict=False)) if a != b
            )
            gap = _gap(reference, [*ids, *wanted[:at]], response.ids[at], wanted[at])
            assert gap < _TIE, f"token {at} after '{prompt}' is another one, by {gap:.1e}"
            ties += 1
    letters = [[c for c in response.text if c.isascii() and c.isprintable()] for response in found]
    stops = tuple(one[len(one) // 2] for one in letters[::3] if one)
    requests = [Generation(p, max_tokens=_WRITTEN, stop=stops) for p in prompts]
    for whole, stopped in zip(found, lm.generations(requests), strict=True):
        ends = [whole.text.index(stop) for stop in stops if stop in whole.text]
        wanted_text = whole.text[: min(ends)] if ends else whole.text
        assert stopped.text == wanted_text, f"'{stopped.text}' does not end before {stops}"
    return f"{ties} ties" if ties else "the same"


@torch.no_grad()
def scalar_head(subject: Subject) -> str:
    """A model with a scalar head gives the values of transformers' own class, also when reopened."""
    from transformers import AutoModelForSequenceClassification

    model: Any = with_scalar_head(subject.model(), 0).eval()
    examine(model, learns=True)
    with tempfile.TemporaryDirectory() as folder:
        save(model, Path(folder))
        theirs: Any = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    attend(theirs, "eager")
    attend(model)
    lm = subject.context.language_model(model, subject.context.tokenizer())
    rows = [[int(i) for i in ids] for ids in subject.documents]
    for row, values in zip(rows, lm.values(rows), strict=True):
        wanted = float(theirs(input_ids=torch.tensor([row])).logits[0, 0])
        found = float(values[-1])
        assert abs(found - wanted) < _SCORE, f"a value is {found:.6f}, transformers' {wanted:.6f}"
    return "the same values"


def greedy(model: Any, ids: list[int], count: int) -> list[int]:
    """The most likely tokens, by transformers' own ``generate``."""
    given: dict[str, Any] = {
        "attention_mask": torch.ones(1, len(ids), dtype=torch.long),
        "max_new_tokens": count,
        "do_sample": False,
        "eos_token_id": None,
        "pad_token_id": 0,
    }
    try:
        out: Tensor = model.generate(torch.tensor([ids]), **given)
    except (AttributeError, RuntimeError, ValueError):  # its cache cannot be made, or be used
        out = model.generate(torch.tensor([ids]), use_cache=False, **given)
    return [int(i) for i in out[0, len(ids) :]]


def _gap(model: Any, ids: list[int], one: int, other: int) -> float:
    logits = model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].float()
    return abs(float(logits[one] - logits[other]))
