"""Results of a small model's own forward pass, with which the kit compares inference components."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from engine.modeling.heads import attend
from engine.testing.standalone import StandAloneContext, tiny_model

NATS = 1e-3
"""Tolerance of a token's log P in float32: kernels differ by 1e-5, a wrong mask or position by more."""
_LIVELY = 12
"""Factor on the weights of the model."""


@torch.no_grad()
def lively_model(context: StandAloneContext) -> Any:
    """A model that writes many different tokens; an untrained one repeats a single token."""
    model = tiny_model(context).eval()
    attend(model)
    for weight in model.parameters():
        if weight.dim() > 1:
            weight *= _LIVELY
    return model


@torch.no_grad()
def logits(model: Any, tokens: Sequence[int]) -> Tensor:
    """The model's logits ``_TV`` after each token, in float64."""
    logits_TV: Tensor = model(torch.tensor([list(tokens)])).logits[0].double()
    return logits_TV


def own_logprob(model: Any, tokens: Sequence[int], scored: int) -> tuple[float, bool]:
    """log P of the last ``scored`` tokens, and whether each is the likeliest."""
    logprobs_TV = logits(model, tokens[:-1]).log_softmax(-1)[-scored:]
    labels_T = torch.tensor(tokens[-scored:])
    total = logprobs_TV.gather(1, labels_T[:, None]).sum()
    return float(total), bool((logprobs_TV.argmax(-1) == labels_T).all())


def near(value: float, expected: float, tokens: int) -> bool:
    """Whether log P of this many tokens is as expected, up to rounding."""
    return math.isclose(value, expected, rel_tol=0, abs_tol=NATS * max(1, tokens))


def continued(model: Any, prompt: Sequence[int], most: int) -> list[int]:
    """The tokens of greedy decoding."""
    tokens = list(prompt)
    for _ in range(most):
        tokens.append(int(logits(model, tokens)[-1].argmax()))
    return tokens[len(prompt) :]
