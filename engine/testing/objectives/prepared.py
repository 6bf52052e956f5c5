"""Checks that an objective trains on windows of a prepared corpus as it does on records of text."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from engine.contracts.batch import Batch, Example
from engine.contracts.component_config import ObjectiveConfig
from engine.data.shards import Shards, ShardWriter
from engine.data.windows import Windows
from engine.modeling.encoding import document_tokens
from engine.testing.requirements import require
from engine.testing.standalone import StandAloneContext
from engine.testing.training import LENGTH, check_learning, examples_of, unbatched

_COUNT = 4
"""Windows to check; there are documents of several in them."""


def prepared(built: Any, config: ObjectiveConfig, context: StandAloneContext) -> None:
    """Checks windows, unless the configuration says why the objective cannot train on them."""
    if "text" not in config.takes or config.prepared_fault() is not None:
        return
    examples = examples_of_windows(built, context)
    for example in examples:
        require(isinstance(example, Example), "encode_window gives an example")
        require(0 < example.length <= LENGTH, "an example of a window has no more tokens than it")
    if built.unbatched:
        unbatched(examples)
        return
    try:
        batch = built.collate(examples)
    except Exception as error:  # a plugin's class may raise anything
        raise AssertionError(
            "broken contract: encode_window makes the fields that collate reads, or the "
            f"configuration's prepared_fault says why not, but {type(error).__name__}: {error}"
        ) from error
    records = built.collate(examples_of(built, "text", context))
    require(
        _names(batch) == _names(records),
        f"windows give {_names(batch)}, as records do: {_names(records)}",
    )
    again = built.collate(examples_of_windows(built, context))
    require(
        all(torch.equal(a, b) for a, b in zip(_tensors(batch), _tensors(again), strict=True)),
        "encode_window gives the same at every call, because a resumed run reads windows again",
    )
    check_learning(built, config, context, examples)


def examples_of_windows(built: Any, context: StandAloneContext) -> list[Example]:
    """Examples that the objective makes of the first windows of a corpus."""
    tokenizer = context.tokenizer()
    with tempfile.TemporaryDirectory() as folder:
        shards = Path(folder, "shards")
        writer = ShardWriter(
            shards,
            vocab_size=len(tokenizer),
            eos_id=tokenizer.eos_token_id,
            boundary_target=False,
        )
        for text in context.documents:
            writer.add(document_tokens(tokenizer, text), len(text.encode()))
        writer.close()
        encode = partial(built.encode_window, tokenizer=tokenizer)
        return list(islice(Windows(Shards.open(shards), LENGTH, encode), _COUNT))


def _names(batch: Batch) -> Sequence[str]:
    return sorted({*batch.inputs, *batch.targets, *batch.counts})


def _tensors(batch: Batch) -> Sequence[torch.Tensor]:
    return [*batch.inputs.values(), *batch.targets.values()]
