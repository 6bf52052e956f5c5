"""A run's prepare stage searches for the items of the evaluators that its spec names."""

from __future__ import annotations

import json
import pydoc_data.topics

import pytest
from support.runs import events

from engine import RunError

QUESTION = "Where would somebody who has lost a key look for it first of all, before asking others?"
ROW = {
    "question": QUESTION,
    "choices": {"label": ["A", "B"], "text": ["under the mat", "in the sea"]},
    "answerKey": "A",
}
OTHER = {
    **ROW,
    "question": "What do most people in town put on when they go out into heavy rain at night?",
}
NONE = {**ROW, "question": "Which of these things does a gardener need when the ground is dry?"}


@pytest.fixture
def spec(tiny_spec, tmp_path):
    """A corpus of which two documents have a question each, and a model scored by the first."""
    folder = tmp_path / "documents"
    folder.mkdir()
    texts = [text[:3000] for text in sorted(pydoc_data.topics.topics.values())[:6]]
    texts[2] += f"\n{QUESTION}\n"
    texts[5] += f"\n{OTHER['question'].upper()}\n"
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    tiny_spec["stages"]["corpus"]["prepare"] |= {
        "sources": [{"type": "files", "paths": [f"{folder}/*.txt"]}],
        "processors": [{"type": "decontaminate"}],
        "holdout": 0.1,
    }
    tiny_spec["stages"]["base"]["train"]["evaluate"] = ["perplexity", _rows(tmp_path, "keys", ROW)]
    return tiny_spec


@pytest.fixture
def prepared(command, write_spec, tmp_path):
    """The record of the prepare stage after a run of it alone."""

    def prepared(spec, *options, status=0):
        file, runs = write_spec(spec), tmp_path / "runs"
        _, told = command("run", file, "--runs", runs, "--stage", "corpus", *options, status=status)
        if status:
            return told
        return json.loads((runs / spec["name"] / "corpus" / "stage.json").read_text())["summary"]

    return prepared


def _rows(folder, name, *rows, **fields):
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"type": "commonsense-qa", "rows": str(file), "name": name, **fields}


def _dropped(summary):
    return summary["sources"][0]["dropped"].get("contaminated", 0)


def _benchmarks(summary):
    return [(one["benchmark"], one["items"]) for one in summary["benchmarks"]]


def test_the_evaluators_of_a_spec_are_searched_for(spec, prepared, tmp_path):
    """Those of train stages and of evaluate stages, each with its items once; they stand in the
    record."""
    again = _rows(tmp_path, "again", ROW, limit=1)
    rain = _rows(tmp_path, "rain", OTHER)
    spec["stages"]["scores"] = {"evaluate": {"models": ["base"], "evaluators": [again, rain]}}
    summary = prepared(spec)
    assert _dropped(summary) == 2
    assert _benchmarks(summary) == [("keys", 1), ("rain", 1)]


def test_the_items_that_documents_have_are_named(spec, prepared, command, tmp_path):
    """In the stage's record by their ids, and counted where the card is shown."""
    spec["stages"]["base"]["train"]["evaluate"] = [_rows(tmp_path, "both", ROW, NONE, OTHER)]
    (told,) = prepared(spec)["benchmarks"]
    assert list(told["touched"]) == ["0", "2"]
    out, _ = command("corpus", "show", tmp_path / "runs" / "tiny" / "corpus")
    assert "both: 2 of 3 items in 2 documents" in out


def test_kept_results_of_other_items_are_not_reused(spec, prepared, tmp_path, monkeypatch):
    """Rows that have changed since the stage was broken off, after its search, are searched for."""

    def broken_off(*_):
        raise RunError("broken off")

    with monkeypatch.context() as patch:
        patch.setattr("engine.data.corpus.prepare.write_shards", broken_off)
        assert "broken off" in prepared(spec, status=1)
    assert list((tmp_path / "runs" / "tiny" / ".work" / "corpus").glob("*.parquet"))
    _rows(tmp_path, "keys", ROW, OTHER)
    assert _dropped(prepared(spec)) == 2


@pytest.mark.parametrize(
    "edit",
    [
        ("def texts(self):", "def questions(self):"),
        ("    return AdditionEvaluator", "    context.tokenizer()\n    return AdditionEvaluator"),
    ],
)
def test_an_evaluator_without_texts_is_recorded_as_one(edit, spec, prepared, spoil):
    """As is one that needs what only its own stage has."""
    spoil(edit)
    spec["plugins"] = ["example"]
    spec["stages"]["base"]["train"]["evaluate"].append({"type": "addition"})
    assert _benchmarks(prepared(spec)) == [("keys", 1), ("addition", 0)]


def test_prompts_are_found_without_a_tokenizer(spec, prepared, tmp_path):
    """Those of `safety`, which the model gets as its tokenizer makes them."""
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"prompt": OTHER["question"]}) + "\n", encoding="utf-8")
    safety = {"type": "safety", "prompts": [str(prompts)]}
    spec["stages"]["base"]["train"]["evaluate"] = [safety]
    summary = prepared(spec)
    assert (_dropped(summary), _benchmarks(summary)) == (1, [("safety", 1)])


def test_missing_rows_are_told_before_anything_is_prepared(spec, prepared, tmp_path):
    """As the evaluation itself would tell, hours later."""
    (tmp_path / "keys.jsonl").unlink()
    assert "no rows of 'validation'" in prepared(spec, status=1)


def test_validate_says_that_nothing_searches_for_benchmarks(spec, command, write_spec):
    """In one line, where a spec prepares and evaluates by more than what it holds out."""
    file = write_spec(spec)
    assert "notice" not in command("validate", file)[1]
    spec["stages"]["corpus"]["prepare"]["processors"] = []
    out, err = command("validate", write_spec(spec))
    (notice,) = (line for line in err.splitlines() if line.startswith("notice: "))
    assert notice.startswith(
        "notice: 'corpus' does not search its documents for items of commonsense"
    )
    assert "valid; stages" in out
    spec["stages"]["base"]["train"]["evaluate"] = ["perplexity"]
    assert "notice" not in command("validate", write_spec(spec))[1]


def test_an_evaluator_that_is_added_later_is_searched_for_once(spec, prepared, tmp_path):
    """It is warned of and recorded, and nothing is prepared again before `--rerun`."""
    first = prepared(spec)
    rain = _rows(tmp_path, "rain", OTHER)
    spec["stages"]["base"]["train"]["evaluate"].append(rain)
    second = prepared(spec)
    assert second["fingerprint"] == first["fingerprint"]
    *before, added = second["benchmarks"]
    assert before == first["benchmarks"]
    assert (added["benchmark"], added["added"], added["documents"]) == ("rain", True, 1)
    assert list(added["touched"]) == ["0"]
    assert prepared(spec) == second
    warnings = events(tmp_path / "runs" / "tiny", "warning")
    (warning,) = (w for w in warnings if "rain" in w["message"])
    assert "whose items 1 of its documents have" in warning["message"]
    again = prepared(spec, "--rerun", "corpus")
    assert _dropped(again) == 2
    assert _benchmarks(again) == [("keys", 1), ("rain", 1)]
