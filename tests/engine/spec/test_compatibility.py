"""Data, batches, budgets and models that do not fit together are refused as a spec is loaded."""

from __future__ import annotations

import json

from engine.spec.loading import load_spec

LESS = "; raise it, or set batch.sequence to at most as many"


def test_parts_that_do_not_fit_together(train, texts, problems):
    """Records that the objective does not take, lengths and budgets that make no sense."""
    train["data"] = {"type": "files", "paths": [f"{texts}/*"], "records": "preference"}
    train["holdout"] = 0.1
    assert problems() == [
        "stages.base.train.objective.type: 'next-token' takes text records, "
        "but the data gives preference"
    ]
    train |= {
        "data": "corpus",
        "holdout": 0,
        "batch": {"tokens": 16, "sequence": 64, "micro_tokens": 48},
    }
    assert problems() == [
        f"stages.base.train.batch.tokens: 16 is less than one row of 64 tokens{LESS}",
        "stages.base.train.batch.sequence: 64 is longer than the model's context of 32",
        f"stages.base.train.batch.micro_tokens: 48 is less than one row of 64 tokens{LESS}",
    ]
    train |= {"batch": {"tokens": 16}, "budget": "10%"}
    assert sorted(problems()) == [
        f"stages.base.train.batch.tokens: 16 is less than one row of 32 tokens{LESS}",
        "stages.base.train.budget: '10%' is no budget; use tokens, steps, epochs or time",
    ]


def test_rows_are_looked_at_before_anything_runs(
    stages, train, problems, tiny_spec, write_spec, tmp_path
):
    """Where they are here already: their schema, and rows of no known shape with their file."""
    rows = {"type": "files", "paths": [str(tmp_path / "*.jsonl")]}
    train |= {"data": rows, "evaluate": []}
    stages["corpus"]["prepare"]["sources"] = [rows]
    load_spec(write_spec(tiny_spec))
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", "completion": "b"}\n')
    stages["corpus"]["prepare"]["processors"] = ["exact-dedup"]
    assert problems() == [
        "stages.corpus.prepare.sources.0: gives completion records, but prepare takes text; give them "
        "to a train stage as its `data`, or say by `records: text` and `columns` where their text is",
        "stages.base.train.objective.type: 'next-token' takes text records, but the data gives "
        "completion",
    ]
    (tmp_path / "a.jsonl").write_text('{"content": "a"}\n')
    told = (
        "a.jsonl:1: its rows are of no known shape: they have content; set "
        "`columns: {text: content}`, or leave the file out"
    )
    wrong = ["stages.corpus.prepare.sources.0", "stages.base.train.data"]
    assert problems() == [f"{where}: {told}" for where in wrong]


def test_an_interval_only_counts_in_training(stages, problems):
    """Elsewhere there is nothing that it could count."""
    perplexity = {"type": "perplexity", "every": "2 steps"}
    stages["scores"] = {
        "evaluate": {"models": ["base"], "data": "corpus", "evaluators": [perplexity]}
    }
    assert problems() == [
        "stages.scores.evaluate.evaluators.0.every: only counts inside a train stage"
    ]


def test_a_pretrained_model_s_config_is_read_as_data(train, tmp_path, problems):
    """Its context counts; a damaged file is told."""
    config = tmp_path / "model" / "config.json"
    config.parent.mkdir()
    train |= {
        "model": {"type": "pretrained", "path": str(config.parent)},
        "batch": {"sequence": 256},
    }
    config.write_text(json.dumps({"model_type": "llama", "max_position_embeddings": 128}))
    folder, batch = problems()
    assert folder.startswith("stages.base.train.model.path: ")
    assert "has no weights" in folder
    assert batch.startswith("stages.base.train.batch.sequence: 256 is longer")
    config.write_text('{"max_position_embed')
    (problem,) = problems()
    assert "config.json' is damaged (Unterminated string" in problem


def test_weights_of_0_are_an_error_of_the_spec(
    stages, train, problems, tiny_spec, write_spec, tmp_path
):
    """Where nothing is left to train on: all sources of a mixture, or the one source of records."""
    sources = stages["corpus"]["prepare"]["sources"]
    sources += [{**sources[0], "weight": 0}]
    load_spec(write_spec(tiny_spec))
    sources[0]["weight"] = 0
    file = tmp_path / "rows.jsonl"
    file.write_text('{"prompt": "a", "completion": "b"}\n')
    rows = {"type": "files", "paths": [str(file)], "records": "completion", "weight": 0}
    chat = {**train, "data": rows, "model": "base", "objective": "sft", "evaluate": []}
    stages["chat"] = {"train": chat}
    assert problems() == [
        "stages.corpus.prepare.sources: every source has weight 0: there is nothing to train on; "
        "give one a weight",
        "stages.chat.train.data.weight: the only source has weight 0: leave it out",
    ]
