"""What the kit finds in penalties."""

from __future__ import annotations

import pytest

from engine.testing import StandAloneContext, check_component

MIXTRAL = {
    "type": "causal-lm",
    "architecture": "mixtral",
    "config": {
        "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2,
        "num_key_value_heads": 2, "num_local_experts": 4,
    },
}  # fmt: skip


@pytest.mark.parametrize(
    "settings", [{"type": "z-loss"}, {"type": "distance-to-start"}, {"type": "load-balance"}]
)
def test_right_ones_pass(settings, outside):
    """The built-in ones, and one with a state that reads modules."""
    context = StandAloneContext(model=MIXTRAL)
    check_component("penalty", settings, context)
