"""How often training sees each source of a mixture."""

from __future__ import annotations

import pytest

from engine.data.epochs import effective_epochs
from engine.data.mixture import Mixture, MixtureSource


@pytest.mark.parametrize(
    ("sizes", "weights", "most", "epochs"),
    [
        ((700, 300), (1, 1), (None, None), (5 / 7, 5 / 3)),
        ((700, 300), (0.7, 0.3), (None, None), (1, 1)),
        ((700, 300), (1, 1), (None, 1), (1, 1)),  # the second has run out, the first fills up
        ((700, 300), (1, 0), (None, None), (1, 0)),
        ((700, 300), (1, 1), (0.5, 0.5), (0.5, 0.5)),
    ],
)
def test_epochs_follow_weights_until_a_source_is_used_up(sizes, weights, most, epochs):
    """As many samples are drawn as there are, and then counted one by one."""
    given = zip("ab", sizes, weights, most, strict=True)
    sources = [MixtureSource(*one) for one in given]
    found = effective_epochs(sources)
    assert list(found.values()) == pytest.approx(epochs, rel=0.01)
    mixture = Mixture(sources, 0)
    drawn = mixture.batch(0, min(mixture.epoch_size, len(mixture)))
    for number, (name, size) in enumerate(zip("ab", sizes, strict=True)):
        counted = sum(sample.source == number for sample in drawn) / size
        # Inside a block the order is random: 9 samples (1 sigma) of the first 1,000.
        assert found[name] == pytest.approx(counted, abs=0.1)
