"""Texts to shards against datatrove's steps, on the same texts, by alternating runs.

Both shuffle the documents; ours also writes a table of them, and keeps what each step has made.
"""

from __future__ import annotations

import json
import os
import pydoc_data.topics
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from engine_data.config import BPE
from engine_data.tokenizers import build_bpe

PAIRS = 6
PYTHON = os.environ.get("DATATROVE_PYTHON", sys.executable)
"""An interpreter with ``datatrove[processing]==0.10.*`` and ``spacy``."""


def _library() -> list[str]:
    """The standard library's sources and topics, 5 MB."""
    modules = sorted(Path(os.__file__).parent.glob("*.py"))
    sources = [module.read_text(encoding="utf-8") for module in modules]
    return [*sources, *pydoc_data.topics.topics.values()]


def _prose() -> list[str]:
    """Licences of installed packages, of which the rules keep most, and many of which are alike; and
    topics, of which they keep few."""
    files = sorted(Path(sysconfig.get_path("purelib")).glob("*.dist-info/**/LICENSE*"))
    licences = [
        file.read_text(encoding="utf-8", errors="ignore") for file in files if file.is_file()
    ]
    return [*licences, *pydoc_data.topics.topics.values()]


@pytest.mark.benchmark
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(
    ("steps", "texts", "rounds", "factor"), [("tokenize", _library, 3, 4), ("chain", _prose, 4, 5)]
)
def test_shards_take_a_fraction_of_datatrove_s_time(
    tmp_path, paused, ratio, steps, texts, rounds, factor
):
    """CPU seconds from texts on: of tokens alone, and of Gopher's rules, near-deduplication and
    tokens."""
    if subprocess.run([PYTHON, "-c", "import datatrove, spacy"], capture_output=True).returncode:
        pytest.skip("no datatrove; set DATATROVE_PYTHON to an interpreter that has it")
    given = texts()
    file, tokenizer = tmp_path / "texts.json", tmp_path / "tokenizer"
    file.write_text(json.dumps(given), encoding="utf-8")
    build_bpe(BPE(vocab_size=4096), None)(given).save_pretrained(tokenizer)
    peer = Path(__file__).with_name("chain_peer.py")
    ours, theirs = (
        paused(python, peer, name, steps, file, tokenizer)
        for python, name in ((sys.executable, "ours"), (PYTHON, "datatrove"))
    )
    seconds = [(theirs.burst(1), ours.burst(rounds)) for _ in range(PAIRS)]
    size = sum(len(text.encode()) for text in given) / 1e6
    slow, fast = (sorted(column)[PAIRS // 2] for column in zip(*seconds, strict=True))
    for name, time, tokens in (("datatrove", slow, theirs), ("ours", fast, ours)):
        print(f"\n{name}: {size / time:.2f} MB/s of {size:.1f} MB, {tokens.losses[-1]:,} tokens")
    speedup = ratio(*zip(*seconds, strict=True))
    print(f"datatrove's CPU seconds to ours: {speedup}")
    assert speedup.low >= factor
