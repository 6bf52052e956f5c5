"""A near copy of a document that is held out is not trained on."""

from __future__ import annotations

import json
import random

import pyarrow.parquet as pq
import pytest

from engine.testing import run_spec

_WORDS = [f"w{number}" for number in range(3000)]


def _similarity(a: str, b: str) -> float:
    one, other = ({tuple(w[n : n + 5]) for n in range(len(w) - 4)} for w in (a.split(), b.split()))
    return len(one & other) / len(one | other)


@pytest.mark.parametrize("listed", [True, False], ids=["listed", "not listed"])
def test_what_is_held_out_takes_its_near_copies_with_it(tmp_path, listed):
    """Of 60 documents with three near copies each, a third held out. Without the step there are
    some."""
    dice = random.Random(20)
    texts = []
    for _ in range(60):
        words = dice.choices(_WORDS, k=150)
        for _ in range(4):
            copy = list(words)
            copy[dice.randrange(150)] = "edited"
            texts.append(" ".join(copy))
    dice.shuffle(texts)
    rows = (json.dumps({"id": str(n), "text": text}) for n, text in enumerate(texts))
    (tmp_path / "all.jsonl").write_text("\n".join(rows))
    prepare = {
        "sources": [{"type": "files", "paths": [f"{tmp_path}/all.jsonl"]}],
        "processors": [{"type": "near-dedup"}] if listed else [],
        "tokenizer": {"type": "bytes"},
        "executor": {"type": "local", "processes": 0},
        "holdout": 0.33,
    }
    spec = {"engine": 1, "name": "near", "stages": {"corpus": {"prepare": prepare}}}
    (tmp_path / "spec.yaml").write_text(json.dumps(spec))
    folder = run_spec(tmp_path / "spec.yaml", tmp_path / "runs").folder / "corpus"
    held = [json.loads(row)["text"] for row in (folder / "holdout.jsonl").read_text().splitlines()]
    ids = pq.read_table(folder / "shards" / "0" / "documents.parquet").column("id").to_pylist()
    trained = [texts[int(name.rpartition(":")[2]) - 1] for name in ids]
    assert len(held) >= 10
    assert len(trained) >= 30
    assert any(_similarity(a, b) >= 0.8 for a in held for b in trained) is not listed
