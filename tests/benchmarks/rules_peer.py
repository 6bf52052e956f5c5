"""Gopher's quality and repetition rules on texts, again and again.

``python rules_peer.py ours|datatrove TEXTS`` prints a JSON line for each round over the texts of a JSON
file; ``time`` is the process's CPU seconds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path


def main(name: str, file: Path) -> None:
    """Judges without end."""
    texts = json.loads(file.read_text(encoding="utf-8"))
    judge = {"ours": _ours, "datatrove": _datatrove}[name]()
    while True:
        dropped = sum(judge(text) for text in texts)
        line = {"event": "step", "time": time.process_time(), "loss": dropped}
        print(json.dumps(line), flush=True)


def _ours() -> Callable[[str], bool]:
    from engine_corpus.judge.rules.config import Gopher
    from engine_corpus.judge.rules.gopher import GopherRules

    rules = GopherRules(Gopher())
    return lambda text: rules.judge(text).rule is not None


def _datatrove() -> Callable[[str], bool]:
    """Its two filters, one after the other: the second sees what the first keeps."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import GopherQualityFilter, GopherRepetitionFilter

    quality, repetition = GopherQualityFilter(), GopherRepetitionFilter()

    def dropped(text: str) -> bool:
        document = Document(text=text, id="")
        return quality.filter(document) is not True or repetition.filter(document) is not True

    return dropped


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
