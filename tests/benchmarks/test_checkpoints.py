"""How long a save keeps training waiting, against a save that is waited for."""

from __future__ import annotations

import time

import pytest
import torch

from engine.storage.checkpoints import Checkpoints

PAIRS = 10
MB = 400


@pytest.mark.benchmark
@pytest.mark.timeout(600)
def test_a_save_in_the_background_blocks_for_a_copy(tmp_path, ratio):
    """Weights and two moments, 400 MB: only their copy into buffers that are used again."""
    state = {str(n): torch.randn(MB * 1_000_000 // 4 // 16) for n in range(16)}
    seconds: dict[str, list[float]] = {"background": [], "waited for": [], "copy": []}
    kinds = {
        name: Checkpoints(
            tmp_path / name.replace(" ", "-"), keep=1, background=name == "background"
        )
        for name in ("background", "waited for")
    }
    target = {key: torch.empty_like(value) for key, value in state.items()}
    for pair in range(PAIRS + 1):
        for name, checkpoints in kinds.items():
            started = time.perf_counter()
            checkpoints.save(state, {}, step=pair, score=None)
            seconds[name].append(time.perf_counter() - started)
            checkpoints.wait()
        started = time.perf_counter()
        for key, value in state.items():
            target[key].copy_(value)
        seconds["copy"].append(time.perf_counter() - started)
    for checkpoints in kinds.values():
        checkpoints.close()
    warm = {name: times[1:] for name, times in seconds.items()}  # buffers are made at the first
    share = ratio(warm["background"], warm["waited for"])
    print(f"\nblocked for {share} of a save; a bare copy {ratio(warm['copy'], warm['waited for'])}")
    assert share.mean < 0.1
