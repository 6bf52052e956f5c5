"""A stage that runs out of memory says which fields help, and what was expected."""

from __future__ import annotations

import pytest
import torch
from engine_parallel.replicated import Replicated

from engine.errors import RunError


def _on_an_accelerator(*_):
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore of it")


def _on_a_cpu(*_):
    return torch.empty(1 << 60)


@pytest.mark.parametrize("allocate", [_on_an_accelerator, _on_a_cpu])
def test_fields_that_help_are_named(allocate, tiny_spec, run_here, monkeypatch):
    """With the plan's figure and torch's own first line; other errors stay what they are."""
    monkeypatch.setattr(Replicated, "forward_backward", allocate)
    tiny_spec["stages"]["base"]["train"]["batch"] = {"tokens": 128, "micro_tokens": 64}
    with pytest.raises(RunError) as error:
        run_here(tiny_spec)
    told = str(error.value)
    assert told.startswith("base: out of memory on cpu: ")
    assert "allocate" in told.splitlines()[0]
    assert "More of it" not in told
    assert "`engine plan` expected " in told
    assert "lower `batch.micro_tokens` from 64" in told
    assert "activation_checkpointing: true" in told


def test_other_errors_stay_what_they_are(tiny_spec, run_here, monkeypatch):
    """They are no matter of memory."""

    def broken(*_):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Replicated, "forward_backward", broken)
    with pytest.raises(
        RunError, match=r"^the engine failed: RuntimeError: mat1 and mat2 .* multiplied"
    ):
        run_here(tiny_spec)
