"""Checks which tokens an objective's loss is about, by its gradients in logits of the kit's own."""

from __future__ import annotations

import math

import torch
from torch import nn

from engine.contracts.batch import Batch, Loss
from engine.testing.requirements import require

_NOTHING = 1e-4
"""A gradient that small, as a share of the largest, is rounding."""


def check_labels(built: Loss, batch: Batch, examples: int, vocabulary: int) -> None:
    """Checks that positions are about the next token, that counts are theirs, and that the head's bias
    has a part.

    The hidden states are logits, and the head gives them back. A loss that needs the model's own head
    is not checked.
    """
    ids_BT, places_BT = batch.inputs["input_ids"], batch.inputs["position_ids"]
    generator = torch.Generator().manual_seed(0)
    logits_BTV = 0.01 * torch.randn(*ids_BT.shape, vocabulary, generator=generator)
    logits_BTV.requires_grad_()
    plain = nn.Linear(vocabulary, vocabulary)
    nn.init.eye_(plain.weight)
    nn.init.zeros_(plain.bias)
    try:
        terms = built.loss(logits_BTV, plain, batch)
    except Exception:  # a plugin's loss may need the model's own head
        return
    for name, term in terms.items():
        if not term.requires_grad:
            continue
        given = [logits_BTV, plain.bias]
        slope_BTV, bias_V = torch.autograd.grad(term, given, allow_unused=True, retain_graph=True)
        if slope_BTV is None or not slope_BTV.any():
            continue
        require(
            bias_V is not None and bool(bias_V.any()),
            f"{name} depends on the head's bias: give functions the head itself, not its weight",
        )
        most_BT, tokens_BT = slope_BTV.abs().max(-1)
        learnt_BT = most_BT > _NOTHING * most_BT.max()
        count, positions = batch.counts[name], int(learnt_BT.sum())
        # Of a weighted cross-entropy of equal logits: the slope at a label is its weight · (1 − 1/V).
        weights = float(most_BT.sum()) * vocabulary / (vocabulary - 1)
        require(
            count in (positions, examples, len(ids_BT))
            or math.isclose(count, weights, rel_tol=0.02),
            f"counts['{name}'] is {count}, but {name} depends on {positions} positions of "
            f"{examples} examples",
        )
        whole_BT = learnt_BT[:, :-2] & (places_BT[:, 2:] == places_BT[:, :-2] + 2)
        later = (ids_BT[:, shift:][:, : ids_BT.shape[1] - 2] for shift in range(3))
        hits = [int((whole_BT & (tokens_BT[:, :-2] == ids)).sum()) for ids in later]
        require(
            hits[1] >= max(hits) or 2 * max(hits) <= int(whole_BT.sum()),
            f"{name} is about the next token of a row, but of {int(whole_BT.sum())} positions at "
            f"{hits[0]} about that token itself, at {hits[1]} the next, at {hits[2]} the one after",
        )
