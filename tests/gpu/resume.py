"""A run that is killed twice and resumed has every weight of an unbroken one, bit by bit."""

from __future__ import annotations

import subprocess
import sys

from ready_specs import BASE, SPECS
from rows import Rows, holds


def rows(device: str) -> Rows:
    """One, with deterministic kernels; the engine's own command compares."""
    precision, kills = ("bf16", 2) if device == "cuda" else ("fp32", 1)
    changes = BASE | {"base.train.precision": precision, "base.train.evaluate": "[]"}
    command = [
        sys.executable,
        "-m",
        "engine.cli",
        "verify-resume",
        str(SPECS / "quickstart.yaml"),
    ]
    command += ["--steps", "4", "--kills", str(kills)]
    for field, value in changes.items():
        command += ["--set", f"stages.{field}={value}"]
    done = subprocess.run(command, check=False)
    yield holds(
        f"SIGKILL and resume, {precision}", f"status {done.returncode}", not done.returncode
    )
