"""What all data sources have in common: their part in a mixture."""

from __future__ import annotations

import json
from itertools import pairwise

import datasets
import pytest

from engine.data.shards import read_manifest


@pytest.mark.covers(
    *(
        f"data-source/{source}.{field}"
        for source in ("files", "python-library", "hugging-face")
        for field in ("weight", "max_epochs")
    )
)
def test_weights_and_epochs_of_every_source_reach_the_mixture(
    tiny_spec, texts, tmp_path, run_here, monkeypatch
):
    """Each has its share until it is used up; in all, it gives as many epochs as it may."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", str(tmp_path / "cache"))
    rows = [json.dumps({"text": file.read_text()}) for file in sorted(texts.iterdir())]
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text("\n".join(rows))
    tiny_spec["stages"]["corpus"]["prepare"] = {
        "sources": [
            {"type": "files", "paths": [f"{texts}/*.txt"], "weight": 5, "max_epochs": 1},
            {"type": "python-library", "parts": ["topics"], "weight": 2, "max_epochs": 5},
            {"type": "hugging-face", "path": str(tmp_path / "set"), "weight": 1, "max_epochs": 1.5},
        ],
        "tokenizer": {"type": "bytes"},
    }
    tiny_spec["stages"]["base"]["train"] |= {"budget": "1 steps", "evaluate": []}
    run = run_here(tiny_spec)
    (training,) = run.events("training")
    starts, shares = zip(*training["segments"], strict=True)
    assert shares[0] == {"files": 5 / 8, "python-library": 2 / 8, "hugging-face": 1 / 8}
    epochs = {"files": 1, "python-library": 5, "hugging-face": 1.5}
    shards = [run.folder / "corpus" / "shards" / str(i) for i in range(3)]
    rows = [(read_manifest(folder).tokens - 1) // 32 for folder in shards]
    given = {name: int(epochs[name] * n) for name, n in zip(epochs, rows, strict=True)}
    lengths = [end - start for start, end in pairwise([*starts, sum(given.values())])]
    for name, wanted in given.items():
        drawn = sum(share.get(name, 0) * n for share, n in zip(shares, lengths, strict=True))
        assert drawn == pytest.approx(wanted, abs=len(lengths))
