"""Evaluations give scores with and without the items that documents have from which a model learned."""

from __future__ import annotations

import copy
import json
import pydoc_data.topics
from dataclasses import replace

import pytest

from engine.contracts.scoring import BenchmarkTexts, ItemTexts
from engine.runs.contamination.benchmarks import digest_of, found_in

QUESTIONS = [
    "Where would somebody who has lost a key look for it first of all, before asking others?",
    "What do most people in town put on when they go out into heavy rain at night?",
    "Which of these things does a gardener need most when the ground is dry in summer?",
    "How do children who live far from the school usually get there in the morning?",
]


def _rows(folder, name, questions, **fields):
    rows = [
        {
            "question": question,
            "choices": {"label": [*"ABCDE"], "text": ["mat", "sea", "coat", "water", "bus"]},
            "answerKey": "AB"[number % 2],
        }
        for number, question in enumerate(questions)
    ]
    file = folder / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {"type": "commonsense-qa", "rows": str(file), "name": name, **fields}


@pytest.fixture
def spec(tiny_spec, tmp_path):
    """A corpus whose documents have the first two questions, and a model scored by all four."""
    folder = tmp_path / "documents"
    folder.mkdir()
    texts = [text[:3000] for text in sorted(pydoc_data.topics.topics.values())[:6]]
    texts[2] += f"\n{QUESTIONS[0]}\n"
    texts[5] += f"\n{QUESTIONS[1].upper()}\n"
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    tiny_spec["stages"]["corpus"]["prepare"] |= {
        "sources": [{"type": "files", "paths": [f"{folder}/*.txt"]}],
        "processors": [{"type": "decontaminate"}],
        "holdout": 0.1,
    }
    base = tiny_spec["stages"]["base"]["train"]
    base |= {"evaluate": [_rows(tmp_path, "quiz", QUESTIONS)], "budget": "1 steps"}
    base["model"]["context"] = 256
    return tiny_spec


def _counts(run, stage="base"):
    """Number of items of each accuracy, by metric."""
    scores = run.events("score", stage=stage)
    return {s["metric"]: s["n"] for s in scores if s["metric"].startswith("acc")}


def _record(run, stage):
    return json.loads((run.folder / stage / "stage.json").read_text())["summary"]


def _warnings(run):
    return [event["message"] for event in run.events("warning")]


def _add_scores(spec, evaluators, **fields):
    spec["stages"]["scores"] = {
        "evaluate": {"models": ["base"], "evaluators": evaluators, **fields}
    }


def test_scores_come_with_and_without_the_touched_items(spec, run_here):
    """In events and in the stage's record; the corpus's record names the items."""
    run = run_here(spec)
    (told,) = _record(run, "corpus")["benchmarks"]
    assert set(told["touched"]) == {"0", "1"}
    assert _counts(run) == {"acc": 4, "acc_clean": 2}
    scores = _record(run, "base")["scores"]
    beside = ["gold_logprob", "gold_logprob_clean", "chance", "chance_clean"]
    assert [score["metric"] for score in scores] == ["acc", "acc_clean", *beside]
    assert scores[0]["fingerprint"] != scores[1]["fingerprint"]


def test_a_clean_score_is_that_of_the_other_items_alone(spec, run_here, tmp_path):
    """An evaluator that has only those gives the same figures, and no clean score."""
    spec["stages"]["base"]["train"]["evaluate"].append(_rows(tmp_path, "others", QUESTIONS[2:]))
    run = run_here(spec)
    scores = {(s["evaluator"], s["metric"]): s for s in run.events("score")}
    alone, clean = scores["others", "acc"], scores["quiz", "acc_clean"]
    assert ("others", "acc_clean") not in scores
    assert [clean[name] for name in ("value", "stderr", "n")] == [
        alone[name] for name in ("value", "stderr", "n")
    ]


def test_the_summary_of_a_run_shows_both(spec, command, write_spec, tmp_path):
    """In 80 columns, for train and evaluate stages; `engine runs` names them as well."""
    _add_scores(spec, [_rows(tmp_path, "quiz", QUESTIONS)])
    runs = tmp_path / "runs"
    out, _ = command("run", write_spec(spec), "--runs", runs)
    shown = out[out.index("parameters,") :].splitlines()
    clean = [line for line in shown if "clean" in line]
    assert ["2 items" in line for line in clean] == [True, True, True, False] * 2
    assert sum(line.startswith("  clean: without the items") for line in clean) == 2
    assert max(map(len, clean)) <= 80
    stages = json.loads(command("runs", "--runs", runs, "--json")[0])[0]["stages"]
    for stage in ("base", "scores"):
        assert [one.split()[0] for one in stages[stage]["score"].split(", ")][:2] == [
            "acc",
            "acc_clean",
        ]


def test_models_are_compared_over_the_same_items(spec, run_here, finished_run, tmp_path):
    """Also one that has learned from none of the documents."""
    other = {"type": "pretrained", "path": str(finished_run / "base" / "final"), "name": "other"}
    _add_scores(spec, [_rows(tmp_path, "quiz", QUESTIONS)], models=["base", other])
    run = run_here(spec)
    scores = [s for s in run.events("score", stage="scores") if s["metric"] == "acc_clean"]
    assert [(score["model"], score["n"]) for score in scores] == [("base", 2), ("other", 2)]


def test_items_are_known_by_their_texts(spec, run_here, tmp_path):
    """Wherever they stand among the rows; one that was edited is another item."""
    edited = [QUESTIONS[3], QUESTIONS[1].replace("heavy", "light"), QUESTIONS[0]]
    run_here(spec)
    _add_scores(spec, [_rows(tmp_path, "moved", edited)])
    run = run_here(spec, only="scores")
    assert _counts(run, "scores") == {"acc": 3, "acc_clean": 2}


def test_a_limit_counts_the_items_that_are_asked(spec, run_here, tmp_path):
    """The first three, of which two are touched."""
    spec["stages"]["base"]["train"]["evaluate"] = [_rows(tmp_path, "quiz", QUESTIONS, limit=3)]
    assert _counts(run_here(spec)) == {"acc": 3, "acc_clean": 1}


def test_without_an_item_that_is_not_touched_there_is_a_warning(spec, run_here, tmp_path):
    """Once for all evaluations, and no clean score."""
    quiz = _rows(tmp_path, "quiz", QUESTIONS, limit=2, every="1 steps")
    spec["stages"]["base"]["train"] |= {"evaluate": [quiz], "budget": "2 steps"}
    run = run_here(spec)
    assert _counts(run) == {"acc": 2}
    (warning,) = (w for w in _warnings(run) if "quiz" in w)
    assert "all 2 items were found in documents" in warning


def test_nothing_is_said_where_no_item_is_touched(spec, run_here, tmp_path):
    """As where nothing was searched for."""
    spec["stages"]["base"]["train"]["evaluate"] = [_rows(tmp_path, "quiz", QUESTIONS[2:])]
    assert _counts(run_here(spec)) == {"acc": 2}


def test_an_evaluator_that_is_added_later_has_a_clean_score(spec, run_here, tmp_path):
    """By the search of the finished corpus, whose documents stay."""
    spec["stages"]["base"]["train"]["evaluate"] = []
    run_here(spec)
    _add_scores(spec, [_rows(tmp_path, "quiz", QUESTIONS)])
    run = run_here(spec)
    assert _counts(run, "scores") == {"acc": 4, "acc_clean": 2}


def test_a_model_of_another_run_brings_what_its_corpus_has(spec, run_here, tmp_path):
    """Of a spec that names no corpus itself."""
    made = run_here(spec)
    own = copy.deepcopy(spec)
    own["name"] = "elsewhere"
    own["stages"] = {}
    model = {"type": "pretrained", "path": str(made.folder / "base" / "final")}
    _add_scores(own, [_rows(tmp_path, "quiz", QUESTIONS)], models=[model])
    assert _counts(run_here(own), "scores") == {"acc": 4, "acc_clean": 2}


def test_items_of_any_kind_of_finding_are_touched():
    """By their question, answer or passage, in the searches of all steps."""
    items = tuple(ItemTexts(name, f"What is {name}?") for name in "abcd")
    steps = [
        {"benchmarks": {"quiz": {"touched": ["a"], "passages": {"touched": ["b"]}}}},
        {"benchmarks": {"quiz": {"touched": ["c"], "passages": {"touched": []}}}},
    ]
    quiz, silent = found_in([BenchmarkTexts("quiz", items), BenchmarkTexts("silent")], steps)
    assert quiz["touched"] == {one.id: digest_of(one) for one in items[:3]}
    assert silent["touched"] == {}
    assert digest_of(items[0]) == digest_of(replace(items[0], id="other"))
    assert digest_of(items[0]) != digest_of(replace(items[0], answer="a"))
