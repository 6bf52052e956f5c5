"""The fused loss and log-probabilities equal plain ones in float64, gradients included."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from engine.modeling import token_loss as logprobs
from engine.modeling.output_head import LogitMap, MappedHead
from engine.modeling.token_loss import IGNORE, cross_entropy, token_logprobs

T, D, V = 301, 12, 40


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    """Several chunks, the last of them short; each at least 64 rows, as the code has it."""
    monkeypatch.setitem(logprobs.LOGITS, "cpu", 70 * V)


def _inputs(dtype: torch.dtype, *, ignored: bool = True) -> tuple[Tensor, ...]:
    torch.manual_seed(0)
    hidden, weight, bias = (
        torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_()
        for shape in ((7, T // 7, D), (V, D), (V,))
    )
    labels = torch.randint(0, V, (7, T // 7))
    if ignored:
        labels[torch.rand(labels.shape) < 0.3] = IGNORE
        labels[3] = IGNORE
    return hidden, weight, bias, labels


def _plain(hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None) -> Tensor:
    """log P of each label by all logits at once, 0 where it is ignored."""
    logits = hidden.double() @ weight.double().T
    if bias is not None:
        logits = logits + bias.double()
    counts = labels != IGNORE
    chosen = logits.log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])[..., 0]
    return torch.where(counts, chosen, 0)


@pytest.mark.parametrize("with_bias", [False, True])
@pytest.mark.parametrize("ignored", [False, True])
def test_the_loss_and_its_gradients(with_bias, ignored):
    """To float64's rounding, and scaled as the caller scales it."""
    hidden, weight, bias, labels = _inputs(torch.float64, ignored=ignored)
    given = (hidden, weight, bias) if with_bias else (hidden, weight)
    used = bias if with_bias else None
    ours = cross_entropy(hidden, weight, labels, bias=used)
    theirs = -_plain(hidden, weight, labels, used).sum()
    torch.testing.assert_close(ours, theirs, atol=1e-10, rtol=1e-12)
    for a, b in zip(
        torch.autograd.grad(0.3 * ours, given), torch.autograd.grad(0.3 * theirs, given),
        strict=True,
    ):  # fmt: skip
        torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("kept", [0, T * V])
@pytest.mark.parametrize("with_bias", [False, True])
def test_token_logprobs_and_their_gradients(with_bias, kept, monkeypatch):
    """In any use, not just a sum, be they kept or computed again."""
    monkeypatch.setattr(logprobs, "_KEPT", kept)
    hidden, weight, bias, labels = _inputs(torch.float64)
    given = (hidden, weight, bias) if with_bias else (hidden, weight)
    used = bias if with_bias else None
    ours = token_logprobs(hidden, weight, labels, bias=used)
    theirs = _plain(hidden, weight, labels, used)
    assert ours.shape == labels.shape
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    a, b = (torch.autograd.grad(x.exp().sum() + (x**2).mean(), given) for x in (ours, theirs))
    for mine, plain in zip(a, b, strict=True):
        torch.testing.assert_close(mine, plain, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("logit_map", [LogitMap(0.25), LogitMap(cap=3.0), LogitMap(2.0, 5.0)])
@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_what_comes_after_the_head_counts(logit_map, temperature):
    """A scale and a soft cap on the logits, under a temperature: values and gradients."""
    hidden, weight, bias, labels = _inputs(torch.float64)
    plain = nn.Linear(D, V, dtype=torch.float64)
    plain.weight, plain.bias = nn.Parameter(weight.detach()), nn.Parameter(bias.detach())
    given = (hidden, plain.weight, plain.bias)
    head = MappedHead(plain, logit_map)
    logits = plain(hidden) * logit_map.scale
    if logit_map.cap is not None:
        logits = logit_map.cap * torch.tanh(logits / logit_map.cap)
    torch.testing.assert_close(head(hidden), logits)
    chosen = (logits / temperature).log_softmax(-1).gather(-1, labels.clamp(min=0)[..., None])
    theirs = torch.where(labels != IGNORE, chosen[..., 0], 0)
    ours = token_logprobs(hidden, head, labels, temperature=temperature)
    torch.testing.assert_close(ours, theirs, atol=1e-12, rtol=1e-12)
    pairs = [(ours.exp().sum(), theirs.exp().sum())]
    if temperature == 1:
        pairs.append((cross_entropy(hidden, head, labels), -theirs.sum()))
    for mine, other in pairs:
        torch.testing.assert_close(mine, other, atol=1e-10, rtol=1e-12)
        found, expected = (torch.autograd.grad(x, given, retain_graph=True) for x in (mine, other))
        for a, b in zip(found, expected, strict=True):
            torch.testing.assert_close(a, b, atol=1e-11, rtol=1e-11)


def test_a_matrix_alone_is_not_taken_for_such_a_head():
    """It would give other logits, in silence."""
    head = MappedHead(nn.Linear(D, V), LogitMap(cap=3.0))
    with pytest.raises(AttributeError, match="give the head itself"):
        head.weight  # noqa: B018


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 2e-2)])
def test_narrow_types_lose_no_more_than_their_rounding(dtype, tolerance):
    """The softmax is float32; bfloat16 has eight bits, so products of twelve are off by a percent."""
    hidden, weight, _, labels = _inputs(dtype)
    ours = cross_entropy(hidden, weight, labels)
    assert ours.dtype == torch.float32
    theirs = -_plain(hidden, weight, labels, None).sum()
    torch.testing.assert_close(ours.double(), theirs, rtol=tolerance, atol=0)
    found = torch.autograd.grad(ours, (hidden, weight))
    expected = torch.autograd.grad(theirs, (hidden, weight))
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == dtype
        assert (a.double() - b.double()).norm() < tolerance * b.double().norm()


def test_a_tied_head_gets_both_gradients():
    """As embedding and as head, through one parameter."""
    torch.manual_seed(1)
    weight = torch.randn(V, D, dtype=torch.float64, requires_grad=True)
    ids, labels = torch.randint(0, V, (2, 100))
    (ours,) = torch.autograd.grad(cross_entropy(weight[ids], weight, labels), weight)
    (theirs,) = torch.autograd.grad(-_plain(weight[ids], weight, labels, None).sum(), weight)
    torch.testing.assert_close(ours, theirs, atol=1e-11, rtol=1e-11)


@pytest.mark.parametrize("compute", [cross_entropy, token_logprobs])
def test_where_nothing_counts_the_loss_is_zero(compute):
    """And so are the gradients: a row of padding must not become NaN."""
    hidden, weight, _, labels = _inputs(torch.float32)
    loss = compute(hidden, weight, torch.full_like(labels, IGNORE)).sum()
    assert loss == 0
    for gradient in torch.autograd.grad(loss, (hidden, weight)):
        assert not gradient.any()


@pytest.mark.parametrize("compute", [cross_entropy, token_logprobs])
def test_never_all_logits_at_once(compute, monkeypatch):
    """Only a chunk of them, forward and backward; log-probabilities, only where they are asked."""
    rows = []
    real = logprobs._log_softmax
    monkeypatch.setattr(logprobs, "_KEPT", 0)
    monkeypatch.setattr(
        logprobs, "_log_softmax", lambda h, *rest: rows.append(len(h)) or real(h, *rest)
    )
    hidden, weight, _, labels = _inputs(torch.float32)
    compute(hidden, weight, labels).sum().backward()
    assert max(rows) == 70
    counted = int((labels != IGNORE).sum())
    assert sum(rows) == (T if compute is cross_entropy else 2 * counted)


def test_a_frozen_head_costs_no_gradient():
    """And none is kept for it."""
    hidden, weight, _, labels = _inputs(torch.float64)
    loss = cross_entropy(hidden, weight.detach(), labels)
    (found,) = torch.autograd.grad(loss, hidden)
    (expected,) = torch.autograd.grad(-_plain(hidden, weight, labels, None).sum(), hidden)
    torch.testing.assert_close(found, expected, atol=1e-11, rtol=1e-11)
    assert not cross_entropy(hidden.detach(), weight.detach(), labels).requires_grad
