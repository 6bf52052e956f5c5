"""Rounds of kills, in a process of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from support.warm import Warm


def killed(
    warm: Warm, spec: Path, runs: Path, kills: int, seed: int, processes: int = 1
) -> dict[str, Any]:
    """What kill_rounds.py found."""
    asked = map(str, (spec, runs, kills, seed, processes))
    done = warm.run(["-m", "support.kill_rounds", *asked], timeout=3000)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])
