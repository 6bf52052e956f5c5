"""Shows rows of a stage's training data as the model sees them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from engine import (
    Example,
    Objective,
    Terminal,
    open_stage,
)
from engine.modeling import IGNORE


def show_rows(
    path: Path, samples: int, start: int, as_json: bool, allow: tuple[str, ...] = ()
) -> None:
    """Prints rows of the training data; bars separate documents, and tokens with loss are green."""
    rows = open_stage(path, allow).training_rows(start, samples)
    tokenizer = rows.tokenizer
    console = Terminal(soft_wrap=True)
    for number, example in enumerate(rows.examples, start):
        for tokens, positions, labels in _parts(example, rows.objective):
            # The label at a position is the next token.
            counted = [False, *(label != IGNORE for label in labels[:-1])]
            if as_json:
                row = {"row": number, "tokens": tokens, "counted": counted, "positions": positions}
                print(json.dumps({**row, "text": tokenizer.decode(tokens)}))  # noqa: T201
                continue
            console.rule(f"row {number}: {len(tokens)} tokens, {sum(counted)} count", style="dim")
            console.print(_coloured(tokenizer, tokens, positions, counted))


def _parts(
    example: Example, objective: Objective
) -> Iterator[tuple[list[int], list[int], list[int]]]:
    """Tokens, positions and labels of the rows of one example; a pair of answers has two.

    Online objectives have only the prompt. Padding is left out.
    """
    if objective.unbatched:
        tokens = np.asarray(example.fields["input_ids"]).tolist()
        yield tokens, list(range(len(tokens))), [IGNORE] * len(tokens)
        return
    batch = objective.collate([example])
    ids_BT, positions_BT = batch.inputs["input_ids"], batch.inputs["position_ids"]
    labels_BT = batch.targets.get("labels")
    for row in range(len(ids_BT)):
        tokens = ids_BT[row].tolist()
        positions = positions_BT[row].tolist()
        labels = [IGNORE] * len(tokens) if labels_BT is None else labels_BT[row].tolist()
        filled = len(tokens)
        while filled > 1 and (positions[filled - 1], labels[filled - 1]) == (0, IGNORE):
            filled -= 1  # padding is a document of one token
        yield tokens[:filled], positions[:filled], labels[:filled]


def _coloured(tokenizer: Any, tokens: list[int], positions: list[int], counted: list[bool]) -> Text:
    """Colours tokens with loss; decodes neighbours together, as a character may span several tokens."""
    shown = Text()
    run: list[int] = []
    for following, token in enumerate(tokens, 1):
        run.append(token)
        counts, last = counted[following - 1], following == len(tokens)
        if last or counted[following] != counts or positions[following] == 0:
            shown.append(tokenizer.decode(run), style="green" if counts else "dim")
            run = []
            if not last and positions[following] == 0:
                shown.append("\n┃", style="bold magenta")
    return shown
