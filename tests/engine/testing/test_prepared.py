"""The kit finds objectives that claim to train on a prepared corpus and cannot."""

from __future__ import annotations

import pytest
from support.weighted_objective import ENCODE_WINDOW, FAULT, weighted

from engine.testing import check_component

SETTINGS = {"type": "weighted"}


@pytest.mark.parametrize(
    ("objective", "config"), [(ENCODE_WINDOW, ""), ("", FAULT)], ids=["can", "says that it cannot"]
)
def test_one_that_says_what_it_can_keeps_its_contract(objective, config, install_here):
    """Either way."""
    install_here(weighted(objective, config))
    check_component("objective", SETTINGS)


CALLED = "window.example()"
FORGIVING = """
    def collate(self, examples):
        batch = super().collate(examples)
        if "weights" not in examples[0].fields:
            return batch
        return replace(batch, targets={**batch.targets, "weights": padded(examples, "weights", 0)})
"""


@pytest.mark.parametrize(
    ("contract", "objective"),
    [
        ("makes the fields that collate reads, .* KeyError: 'weights'", ""),
        (
            "encode_window gives an example",
            ENCODE_WINDOW.replace(f"self._weighted({CALLED})", "()"),
        ),
        (
            "no more tokens than it",
            ENCODE_WINDOW.replace(CALLED, f"replace({CALLED}, length=25)"),
        ),
        (
            "the same at every call",
            ENCODE_WINDOW.replace(
                "return", "window.labels[np.random.randint(24)] = 0\n        return"
            ),
        ),
        ("windows give .* as records do: .*'weights'", FORGIVING),
        (
            "gradients accumulated over micro-batches are those of one batch",
            """
    def encode_window(self, window, tokenizer):
        example = window.example()
        return replace(example, fields={**example.fields, "weights": np.full(24, 0.04, "f4")})
""",
        ),
    ],
)
def test_one_that_cannot_is_found(contract, objective, install_here):
    """By the fields, their values and the sums of what windows become."""
    install_here(weighted(objective))
    with pytest.raises(AssertionError, match=contract):
        check_component("objective", SETTINGS)
