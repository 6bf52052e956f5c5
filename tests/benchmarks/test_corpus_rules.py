"""The corpus's rules against datatrove's, on the same texts, by alternating runs."""

from __future__ import annotations

import json
import os
import pydoc_data.topics
import subprocess
import sys
from pathlib import Path

import pytest

TEXTS, CHARACTERS, PAIRS = 24, 40_000, 6
PYTHON = os.environ.get("DATATROVE_PYTHON", sys.executable)
"""An interpreter with ``datatrove[processing]==0.10.*``."""


def _texts() -> list[str]:
    """Modules' sources, and topics joined to texts of some length."""
    modules = sorted(Path(os.__file__).parent.glob("*.py"))[: TEXTS // 2]
    topics = "\n\n".join(text for _, text in sorted(pydoc_data.topics.topics.items()))
    sources = [module.read_text(encoding="utf-8")[:CHARACTERS] for module in modules]
    size = len(topics) // (TEXTS // 2)
    return sources + [topics[start : start + size] for start in range(0, size * TEXTS // 2, size)]


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
def test_gopher_is_six_times_as_fast_as_datatrove(tmp_path, paused, ratio):
    """CPU seconds with ``unicode`` words; all our rules are measured, while datatrove's second filter
    sees only what the first one keeps."""
    if subprocess.run([PYTHON, "-c", "import datatrove, spacy"], capture_output=True).returncode:
        pytest.skip("no datatrove; set DATATROVE_PYTHON to an interpreter that has it")
    texts = _texts()
    file = tmp_path / "texts.json"
    file.write_text(json.dumps(texts), encoding="utf-8")
    peer = Path(__file__).with_name("rules_peer.py")
    ours, theirs = (
        paused(python, peer, name, file)
        for python, name in ((sys.executable, "ours"), (PYTHON, "datatrove"))
    )
    seconds = [(theirs.burst(1), ours.burst(4)) for _ in range(PAIRS)]
    slow, fast = (sorted(column)[PAIRS // 2] for column in zip(*seconds, strict=True))
    size = sum(map(len, texts)) / 1e6
    for name, time, dropped in (("datatrove", slow, theirs), ("ours", fast, ours)):
        print(
            f"{name}: {len(texts) / time:.0f} documents/s, {size / time:.2f} MB/s, "
            f"{dropped.losses[-1]} of {len(texts)} dropped"
        )
    speedup = ratio(*zip(*seconds, strict=True))
    print(f"datatrove's CPU seconds to ours: {speedup}")
    assert speedup.low >= 6
