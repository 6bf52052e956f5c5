"""A step lets the device run ahead: the process waits for it once, to read the step's figures."""

from __future__ import annotations

from collections import Counter

import pytest
import torch
from support.waits import counted_waits


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_step_waits_once(waits, precision, tiny_spec, run_here):
    """For loss, norm and whether it was skipped, in one copy; whatever the number of micro-batches."""
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"precision": precision, "ema": 0.5, "clip": 1.0, "budget": "3 steps", "evaluate": []}
    train["batch"] = {"tokens": 128, "micro_tokens": 64}
    run_here(tiny_spec)
    assert waits == {"tolist": 3}


def test_what_waits_is_counted():
    """The count is no empty one."""
    found: Counter[str] = Counter()
    values = torch.arange(4.0)
    with counted_waits(found):
        values.sum().item()
        if values.any():
            values[values > 1] = 0
        values.nonzero()
        values.cpu()
    expected = {"_local_scalar_dense": 2, "index_put_": 1, "nonzero": 1, "cpu": 1}
    assert found == expected
