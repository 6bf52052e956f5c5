"""The ready spec for few-shot fine-tuning: eight examples, and a gain whose interval is above 0."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.runs import events

SPEC = Path(__file__).parents[2] / "specs" / "few_shot.yaml"
SMALLER = {
    "corpus.prepare.sources": "[{type: python-library, parts: [topics]}]",
    "corpus.prepare.tokenizer.vocab_size": 512,
    "base.train.model": "{type: llama, hidden_size: 64, layers: 2, heads: 2, context: 128}",
    "base.train.batch.tokens": 2048,
    "base.train.budget": "30 steps",
    "gain.evaluate.evaluators": "[{type: answer-perplexity, limit: 100}]",
}


def test_eight_examples_help_on_modules_that_were_held_out(engine, tmp_path):
    """The gain on the same answers, base model against tuned one, is above 0 with its interval."""
    smaller = [part for k, v in SMALLER.items() for part in ("--set", f"stages.{k}={v}")]
    told = engine("run", SPEC, "--runs", tmp_path, *smaller, env={"COLUMNS": "80"}).stdout
    run = tmp_path / "few-shot"
    (examples,) = events(run, "examples")
    assert examples["rows"] == 8
    (gain,) = events(run, "score", metric="gain_over_base")
    assert (gain["model"], gain["n"]) == ("tuned", 100)
    assert 0 < gain["interval"][0] < gain["value"] < gain["interval"][1]
    table = next(line for line in told.splitlines() if "gain over base" in line)
    half = gain["value"] - gain["interval"][0]
    assert [float(n) for n in table.split("base")[1].split("±")] == pytest.approx(
        [gain["value"], half], abs=0.006
    )
