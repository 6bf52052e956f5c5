"""Sizes of memory are read as people write them."""

from __future__ import annotations

import pytest
from engine_plan.quantities import parse_size

from engine import SpecError


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("24GB", 24e9),
        ("16 GiB", 2**34),
        ("512M", 512e6),
        ("1.5T", 1.5e12),
        ("1000", 1000),
        ("24gb", 24e9),
        ("16gib", 2**34),
    ],
)
def test_sizes(text, size):
    """As people write them."""
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["much", "1.2.3GB", "-1GB", "3 parrots", "0", "0GB", "nan"])
def test_what_is_no_size(text):
    """Is told."""
    with pytest.raises(SpecError, match="is no size; write"):
        parse_size(text)
