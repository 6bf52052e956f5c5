"""A run that is killed twice and resumed has every weight of an unbroken one, bit by bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from rows import Row, Rows

_SPEC = Path(__file__).parents[2] / "specs" / "quickstart.yaml"
_CHANGES = {
    "corpus.prepare.sources": "[{type: python-library, parts: [topics]}]",
    "corpus.prepare.tokenizer.vocab_size": 512,
    "base.train.model": "{type: llama, hidden_size: 64, layers: 2, heads: 2, context: 256}",
    "base.train.batch.tokens": 2048,
    "base.train.evaluate": "[]",
}
_PRECISIONS = {"cuda": ("bf16",), "cpu": ("fp32",)}


def rows(device: str) -> Rows:
    """By precision, with deterministic kernels."""
    for precision in _PRECISIONS[device]:
        changes = _CHANGES | {"base.train.precision": precision}
        command = [sys.executable, "-m", "engine.cli", "verify-resume", str(_SPEC)]
        command += ["--steps", "4", "--kills", "2" if device == "cuda" else "1"]
        for field, value in changes.items():
            command += ["--set", f"stages.{field}={value}"]
        done = subprocess.run(command, check=False)
        yield Row(
            f"SIGKILL and resume, {precision}",
            f"status {done.returncode}",
            "0",
            not done.returncode,
        )
