"""Rounds of kills, in a process of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any


def killed(spec: Path, runs: Path, kills: int, seed: int, processes: int = 1) -> dict[str, Any]:
    """What kill_rounds.py found."""
    done = subprocess.run(
        [
            sys.executable,
            "-P",  # a module here has the name of a library
            Path(__file__).with_name("kill_rounds.py"),
            spec,
            runs,
            *map(str, (kills, seed, processes)),
        ],
        capture_output=True,
        text=True,
        timeout=3000,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
