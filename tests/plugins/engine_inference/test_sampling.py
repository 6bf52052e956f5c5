"""Tokens are drawn exactly as the probabilities say."""

from __future__ import annotations

import pytest
import torch
from engine_inference.sampling import draw
from scipy import stats

DRAWS = 40_000


def _logits(vocabulary: int) -> torch.Tensor:
    return torch.randn(vocabulary, generator=torch.Generator().manual_seed(1)) * 2


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.6, 1.0), (1.5, 0.7)])
def test_frequencies_are_the_probabilities(temperature, top_p):
    """Of 12 tokens, among texts that are drawn in other ways; a chi-squared test."""
    logits_V = _logits(12)
    uniform = torch.rand(DRAWS, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    tokens = draw(
        logits_V.expand(3 * DRAWS, -1),
        [temperature, 0.0, 0.3] * DRAWS,
        [top_p, 1.0, 0.5] * DRAWS,
        uniform.repeat_interleave(3).tolist(),
    ).reshape(DRAWS, 3)
    probability_V = (logits_V.double() / temperature).softmax(-1)
    sorted_V, order_V = probability_V.sort(descending=True)
    kept = int((sorted_V.cumsum(-1) - sorted_V < top_p).sum())
    expected_K = sorted_V[:kept] / sorted_V[:kept].sum() * DRAWS
    counts_V = tokens[:, 0].bincount(minlength=12)[order_V]
    assert counts_V[kept:].sum() == 0
    assert stats.chisquare(counts_V[:kept], expected_K).pvalue > 0.01
    assert (tokens[:, 1] == logits_V.argmax()).all()


def test_each_share_of_the_whole_is_the_token_that_has_it():
    """At every boundary of 50,000 tokens, the last one and the largest number below 1 included."""
    vocabulary = 50_000
    logits_V = _logits(vocabulary)
    probability_V = logits_V.softmax(-1).double()
    share_V = probability_V.cumsum(-1) / probability_V.sum()
    chosen = torch.arange(0, vocabulary, 997)
    middle = (share_V[chosen] - probability_V[chosen] / probability_V.sum() / 2).tolist()
    uniform = [*middle, 0.0, 1 - 2**-53]
    tokens = draw(
        logits_V.expand(len(uniform), -1), [1.0] * len(uniform), [1.0] * len(uniform), uniform
    )
    assert tokens.tolist() == [*chosen.tolist(), 0, vocabulary - 1]


def test_what_has_no_probability_is_never_drawn():
    """Before, between and after those that have some."""
    logits_V = torch.full((9,), -torch.inf)
    logits_V[[2, 5]] = torch.tensor([0.0, 1.0])
    uniform = [0.0, 0.1, 0.5, 0.9, 1 - 2**-53]
    tokens = draw(logits_V.expand(5, -1), [1.0] * 5, [1.0, 1.0, 0.99, 1.0, 1.0], uniform)
    assert tokens.tolist() == [2, 2, 5, 5, 5]
