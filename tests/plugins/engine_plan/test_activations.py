"""The published formula of kept activations comes out; ours are measured where the models are."""

from __future__ import annotations

import pytest
from engine_plan.activations import MEGATRON, Pass, layer_bytes

from engine import ModelShape

MODELS = {"22B": (48, 6144, 64), "175B": (96, 12288, 96), "1T": (128, 25600, 160)}
"""Layers, width and heads (Korthikanti et al. 2022, table 3), sequences of 2048 tokens."""


def _gpt(layers: int, hidden: int, heads: int) -> ModelShape:
    return ModelShape(layers, hidden, heads, heads, 4 * hidden, 51200, 2048, gated=False)


@pytest.mark.parametrize(("layers", "h", "a"), MODELS.values(), ids=MODELS)
@pytest.mark.parametrize("t", [1, 8])
def test_a_layer_as_korthikanti_et_al_count_it(layers, h, a, t):
    """Their table 2: without recomputation, of attention only, of everything, and over t ranks."""
    shape, s, b = _gpt(layers, h, a), 2048, 4

    def kept(*, scores="all", recompute="none", parallel=False):
        one = Pass(b, s, 2, scores, t, sequence_parallel=parallel)
        return layer_bytes(shape, one, recompute, MEGATRON)

    tokens = s * b * h
    assert kept() == pytest.approx(tokens * (10 + 24 / t + 5 * a * s / (h * t)))
    assert kept(parallel=True) == pytest.approx(tokens / t * (34 + 5 * a * s / h))
    assert kept(scores="none", parallel=True) == pytest.approx(34 * tokens / t)
    assert kept(recompute="full") == pytest.approx(2 * tokens)


def test_attention_s_share_as_korthikanti_et_al_give_it():
    """Section 5: 5·a·s/h is 80 for GPT-3 and 64 for MT-NLG, so most of it is worth a recomputation."""
    for (layers, h, a), factor in (((96, 12288, 96), 80), ((105, 20480, 128), 64)):
        shape = _gpt(layers, h, a)
        every, none = (
            layer_bytes(shape, Pass(1, 2048, 2, x), "none", MEGATRON) for x in ("all", "none")
        )
        assert (every - none) / (2048 * h) == pytest.approx(factor)


def test_scores_below_the_diagonal_are_about_half():
    """In blocks of 128 queries, and a byte a pair for the mask."""
    shape = _gpt(2, 256, 4)
    scores = {}
    for kind in ("all", "causal", "none"):
        scores[kind] = layer_bytes(shape, Pass(1, 8192, 4, kind))
    whole, below = (scores[k] - scores["none"] for k in ("all", "causal"))
    assert below / whole == pytest.approx(0.5 * (4 * 4 + 1) / (4 * 4), rel=0.03)
