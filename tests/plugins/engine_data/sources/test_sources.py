"""What all data sources have in common: their part in a mixture."""

from __future__ import annotations

import json
from itertools import pairwise

import datasets
import pytest
from engine_data.sources import python_library, python_questions
from support.internals import read_manifest

from engine import RunError
from engine.testing import StandAloneContext


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


@pytest.mark.covers(
    *(f"data-source/{kind}.priority" for kind in ("files", "python-library", "arithmetic")),
    "data-source/hugging-face.priority",
    "data-source/python-questions.priority",  # it gives no documents that could have copies
)
def test_of_two_copies_that_of_the_higher_priority_stays(tiny_spec, texts, tmp_path, run_here):
    """All documents of one source fall where the other has the same; of equals the first stays."""
    rows = "\n".join(json.dumps({"text": file.read_text()}) for file in sorted(texts.iterdir()))
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "train.jsonl").write_text(rows)
    kinds = {
        "files": {"paths": [f"{texts}/*.txt"]},
        "hugging-face": {"path": str(tmp_path / "set")},
        "python-library": {"parts": ["topics"]},
        "arithmetic": {"records": "text", "questions": 20},
    }
    prepare = tiny_spec["stages"]["corpus"]["prepare"]
    tiny_spec["stages"] = {"corpus": {"prepare": prepare}}
    prepare["processors"] = [{"type": "exact-dedup"}]
    for kind, settings in kinds.items():
        for priority, fallen in ((0, 1), (1, 1), (2, 0)):
            source = {"type": kind, **settings}
            prepare["sources"] = [source, {**source, "priority": priority}]
            with pytest.raises(RunError, match=f"source '{kind}-{fallen}' gave no document"):
                run_here(tiny_spec, runs=f"{kind}-{priority}")


_BAD = '    """Gives a character that is none: \\0."""\n'


@pytest.mark.covers(
    *(
        f"data-source/{source}.bad"
        for source in ("files", "python-library", "python-questions", "hugging-face")
    )
)
@pytest.mark.parametrize(
    ("source", "options"),
    [
        ("files", {"paths": ["rows.jsonl"]}),
        ("hugging-face", {"path": "saved"}),
        ("python-library", {"parts": ["docstrings"]}),
        ("python-questions", {}),
    ],
)
def test_bad_rows_above_the_limit_of_any_source_are_an_error(
    tmp_path, monkeypatch, source, options
):
    """Of fifty rows ten have a NUL."""
    monkeypatch.chdir(tmp_path)
    rows = [{"text": "zero \0" if n < 10 else "good"} for n in range(50)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    datasets.Dataset.from_list(rows).save_to_disk("saved")
    (tmp_path / "library").mkdir()
    for n in range(50):
        text = '    """Gives a character, one of many."""\n' if n >= 10 else _BAD
        (tmp_path / "library" / f"m{n}.py").write_text(f"def f{n}():\n{text}")
    for module in (python_library, python_questions):
        monkeypatch.setattr(module, "root", lambda: tmp_path / "library")
    context = StandAloneContext()
    few = context.config("data-source", {"type": source, **options, "bad": 0.2})
    assert len(list(context.records(few))) == 40
    many = context.config("data-source", {"type": source, **options})
    with pytest.raises(RunError, match="10 of 50 rows are bad, more than its limit `bad`"):
        list(context.records(many))
