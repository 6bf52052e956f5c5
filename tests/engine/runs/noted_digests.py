"""Runs ``engine ARGUMENTS`` and notes in a folder the digests of what each rank trains on.

noted_digests.py FOLDER ARGUMENTS…
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from engine.cli import main
from engine.runs.train_inputs import TrainInputs


def note(folder: Path) -> None:
    """Writes RANK.json when the digests are taken."""
    original = TrainInputs.digests

    def digests(inputs: TrainInputs) -> dict[str, str]:
        found = original(inputs)
        (folder / f"{os.environ['RANK']}.json").write_text(json.dumps(found), encoding="utf-8")
        return found

    TrainInputs.digests = digests


if __name__ == "__main__":
    note(Path(sys.argv[1]))
    sys.argv[1:] = sys.argv[2:]
    main()
