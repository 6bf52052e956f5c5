"""What a grid needs of the processes and of the model is told before any starts."""

from __future__ import annotations

from functools import partial

import pytest
from engine_parallel.config import Mesh

from engine import ModelShape


@pytest.mark.parametrize(
    ("grid", "processes", "told"),
    [
        ({"shard": 2, "tensor": 2}, 6, "shard 2 × tensor 2 needs a multiple of 4 processes, not 6"),
        ({"data": 2, "shard": 2}, 8, "data 2 × shard 2 needs 4 processes, not 8; use --nproc 4, or"),
        ({"data": 1, "shard": 3}, 2, "shard 3 needs 3 processes, not 2; use --nproc 3"),
    ],
)  # fmt: skip
def test_degrees_that_do_not_multiply_to_the_processes(grid, processes, told):
    """With the numbers that would work."""
    assert Mesh(**grid).check_processes(processes).startswith(told)
    assert Mesh(**grid).check_processes(12) is None or grid.get("data")


@pytest.mark.parametrize(
    ("grid", "told"),
    [
        ({"tensor": 3}, "tensor: heads 4 is not a multiple of 3; use one of 1, 2, 4"),
        ({"tensor": 4}, "tensor: kv_heads 2 is not a multiple of 4; use one of 1, 2"),
        ({"pipeline": 6}, "pipeline: 5 layers cannot be split into 6 stages; use at most 5"),
        (
            {"pipeline": 4, "schedule": "interleaved"},
            "pipeline: 5 layers cannot be split into 8 stages; use at most 2",
        ),
        ({"expert": 3}, "expert: 8 experts are not a multiple of 3; use one of 1, 2, 4, 8"),
    ],
)
def test_a_model_that_cannot_be_cut_so(grid, told):
    """With the numbers that would work."""
    sizes = {"layers": 5, "hidden_size": 32, "heads": 4, "kv_heads": 2, "intermediate_size": 48}
    experts = 8 if "expert" in grid else 1
    shape = partial(ModelShape, **sizes, vocabulary=64, context=32)(experts=experts)
    assert Mesh(**grid).check_model(shape, 4) == told
