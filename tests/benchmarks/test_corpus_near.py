"""MinHash signatures against datatrove's, on the same texts, by alternating runs."""

from __future__ import annotations

import json
import os
import pydoc_data.topics
import subprocess
import sys
from pathlib import Path

import pytest

MODULES, CHARACTERS, PAIRS = 20, 40_000, 8
PYTHON = os.environ.get("DATATROVE_PYTHON", sys.executable)
"""An interpreter with ``datatrove[processing]==0.10.*``."""


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_signatures_are_thirty_times_as_fast_as_datatrove_s(tmp_path, paused, ratio):
    """CPU seconds from texts on; ours include the hashes of the bands."""
    if subprocess.run([PYTHON, "-c", "import datatrove, spacy"], capture_output=True).returncode:
        pytest.skip("no datatrove; set DATATROVE_PYTHON to an interpreter that has it")
    modules = sorted(Path(os.__file__).parent.glob("*.py"))[:MODULES]
    texts = [module.read_text(encoding="utf-8")[:CHARACTERS] for module in modules]
    texts += pydoc_data.topics.topics.values()
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    peer = Path(__file__).with_name("near_peer.py")
    ours, theirs = (
        paused(python, peer, name, file)
        for python, name in ((sys.executable, "ours"), (PYTHON, "datatrove"))
    )
    seconds = [(theirs.burst(1), ours.burst(30)) for _ in range(PAIRS)]
    size = sum(len(text.encode()) for text in texts) / 1e6
    for name, column in zip(("datatrove", "ours"), zip(*seconds, strict=True), strict=True):
        print(f"\n{name}: {size / sorted(column)[PAIRS // 2]:.2f} MB/s", end="")
    speedup = ratio(*zip(*seconds, strict=True))
    print(f"\ndatatrove's CPU seconds to ours: {speedup}")
    assert speedup.low >= 30
