"""Parts that have other code on a GPU: compiled layers, the optimizer, checkpoints, answers."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"  # before cuBLAS begins, for `_checkpoints`

import torch
from engine_inference.language_model import SharedPrefixLM
from ready_specs import BASE, SPECS
from rows import Rows, at_most, holds
from safetensors.torch import load_file
from steps import Size, Steps, model

from engine import Generation
from engine.testing import StandAloneContext, run_spec

_SIZES = {
    "cuda": Size("small", 256, 4, 4, 4096, 512, 4),
    "cpu": Size("small", 64, 1, 2, 512, 128, 2),
}
_CLOSE = 2e-2
"""Of a loss in bf16, relative: compiled kernels round less often."""


def rows(device: str) -> Rows:
    """One after the other."""
    size = _SIZES[device]
    eager, compiled = (Steps(size, device, "bf16", compiled=c) for c in (False, True))
    for number in range(3):
        a, b = eager.step(), compiled.step()
        yield at_most(f"compiled, step {number + 1}: loss", abs(a - b) / a, _CLOSE)
    groups = eager.strategy._optimized._optimizer.param_groups
    yield holds("AdamW is fused", "", all(group.get("fused") for group in groups))
    yield from _checkpoints(device)
    yield from _answers(size, device)


def _checkpoints(device: str) -> Rows:
    """Saved while training goes on, they have the weights of those for which it waits."""
    changes = {**BASE, "base.train.precision": "bf16" if device == "cuda" else "fp32"}
    weights = []
    with tempfile.TemporaryDirectory() as scratch:
        for background in ("false", "true"):
            every = f"{{every: 1 steps, keep: 2, background: {background}}}"
            overrides = {**changes, "base.train.checkpoint": every}
            torch.use_deterministic_algorithms(mode=True, warn_only=device == "cpu")
            done = run_spec(
                SPECS / "quickstart.yaml",
                Path(scratch, background),
                *(f"stages.{field}={value}" for field, value in overrides.items()),
            )
            torch.use_deterministic_algorithms(mode=False)
            weights.append(load_file(done.folder / "base" / "final" / "model.safetensors"))
    same = all(torch.equal(w, weights[1][name]) for name, w in weights[0].items())
    yield holds("checkpoints in the background: same weights", "", same)


def _answers(size: Size, device: str) -> Rows:
    """The likeliest tokens in float32 are those of a CPU."""
    tokenizer = StandAloneContext().tokenizer()
    asked = [Generation("the cat " * n, max_tokens=24, temperature=0.0) for n in (1, 5, 9)]
    told = []
    for where in ("cpu", device):
        own = model(size).to(where).eval()
        told.append([answer.text for answer in SharedPrefixLM(own, tokenizer).answer(asked)])
    yield holds("answers in fp32 are a CPU's", f"{len(asked)} answers", told[0] == told[1])
