"""Choices are compared as the metrics' definitions say, and odd rows are survived."""

from __future__ import annotations

import logging
import math

import pytest

from engine import Response, RunError


def _row(**changed):
    row = {
        "activity_label": "Baking",
        "ctx_a": "A woman stands in a kitchen.",
        "ctx_b": "she",
        "endings": ["kneads dough for an hour.", "sings.", "flies.", "paints."],
        "label": "0",
    }
    return row | changed


def _scores(benchmark, logprobs, **response):
    rows = []
    for item, values in zip(benchmark.items(), logprobs, strict=True):
        answers = [Response(logprob=v, tokens=3, **response) for v in values]
        rows.append(benchmark.score(item, answers))
    return {score.metric: score for score in benchmark.summarise(rows)}


def test_acc_takes_the_likeliest_and_acc_norm_the_likeliest_per_character(
    evaluator, write, tmp_path
):
    """The long ending has less probability, but more for each of its characters."""
    file = write(tmp_path / "rows.jsonl", [_row(), _row(label="1")])
    logprobs = [(-10.0, -6.0, -9.0, -9.0)] * 2
    scores = _scores(evaluator("hellaswag", rows=str(file)), logprobs)
    assert (scores["acc"].value, scores["acc"].n) == (0.5, 2)
    assert scores["acc_norm"].value == 0.5
    assert scores["acc"].stderr == pytest.approx(math.sqrt(0.5) / math.sqrt(2))
    (one, two) = evaluator("hellaswag", rows=str(file)).items()
    benchmark = evaluator("hellaswag", rows=str(file))
    rows = [
        benchmark.score(i, [Response(logprob=v, tokens=3) for v in logprobs[0]]) for i in (one, two)
    ]
    assert [(row["acc"], row["acc_norm"]) for row in rows] == [(0.0, 1.0), (1.0, 0.0)]


def test_the_right_answer_s_log_probability_and_chance_stand_beside_the_scores(
    evaluator, write, tmp_path
):
    """Per token, also where the model is wrong; rows of an earlier version count for neither."""
    file = write(tmp_path / "rows.jsonl", [_row(), _row(label="1"), _row()])
    benchmark = evaluator("hellaswag", rows=str(file))
    rows = [
        benchmark.score(item, [Response(logprob=v, tokens=3) for v in (-9.0, -6.0, -12.0, -15.0)])
        for item in benchmark.items()
    ]
    scores = {score.metric: score for score in benchmark.summarise(rows)}
    assert (scores["gold_logprob"].value, scores["gold_logprob"].n) == (pytest.approx(-8 / 3), 3)
    assert (scores["chance"].value, scores["acc"].value) == (0.25, pytest.approx(1 / 3))
    for name in ("gold_logprob", "chance"):
        del rows[0][name]
    assert {s.metric: s.n for s in benchmark.summarise(rows)}["gold_logprob"] == 2
    none = [{k: v for k, v in row.items() if k != "gold_logprob"} for row in rows]
    assert "gold_logprob" not in {s.metric for s in benchmark.summarise(none)}


def test_an_answer_without_tokens_has_no_log_probability(evaluator, write, tmp_path):
    """It is left out of the mean."""
    benchmark = evaluator("hellaswag", rows=str(write(tmp_path / "rows.jsonl", [_row()])))
    (item,) = benchmark.items()
    row = benchmark.score(item, [Response(), *[Response(logprob=-1.0, tokens=1)] * 3])
    assert "gold_logprob" not in row


def test_sets_of_choices_with_a_chance_each_have_none_together(evaluator, folder):
    """TruthfulQA's mc1 and mc2; the log-probability is the first set's."""
    benchmark = evaluator("truthful-qa", rows=str(folder), limit=1)
    item = next(iter(benchmark.items()))
    answers = [Response(logprob=-float(i + 1), tokens=1) for i in range(len(item.requests))]
    scores = {s.metric: s.value for s in benchmark.summarise([benchmark.score(item, answers)])}
    assert "chance" not in scores
    assert scores["gold_logprob"] == -1.0 - min(item.data[1][0].gold)


def test_truthful_qa_has_both_its_metrics(evaluator, folder):
    """mc1: the best answer is the likeliest; mc2: probability on all true ones, of that on all."""
    benchmark = evaluator("truthful-qa", rows=str(folder), limit=1)
    item = next(iter(benchmark.items()))
    odds = [0.2, 0.5, 0.3, 0.3, 0.1, 0.4, 0.2]
    answers = [Response(logprob=math.log(p) - 900, tokens=2) for p in odds]  # exp of it is 0
    row = benchmark.score(item, answers)
    assert row["mc1"] == 0.0
    assert row["mc2"] == pytest.approx(0.4)


def test_mmlu_scores_each_subject_and_all_together(evaluator, folder, invented, write):
    """Over all rows alike; the standard error is pooled within subjects; subjects take turns."""
    from lm_eval.api.metrics import mean_stderr, pooled_sample_stderr

    for split, rows in invented["mmlu"].items():
        write(folder / "mmlu" / "virology" / f"{split}.jsonl", rows * 2)
    benchmark = evaluator("mmlu", rows=str(folder), subjects=["astronomy", "virology"])
    items = list(benchmark.items())
    assert [i.id for i in items[:4]] == ["astronomy/0", "virology/0", "astronomy/1", "virology/1"]
    assert "about virology.\n\n" in items[1].requests[0].context
    right = {"astronomy": [1.0, 0.0], "virology": [1.0, 1.0, 0.0, 1.0]}
    rows = []
    for item in items:
        part, number = item.id.split("/")
        (question,) = item.data[1]
        best = min(question.gold) if right[part][int(number)] else (min(question.gold) + 1) % 4
        answers = [Response(logprob=float(i == best), tokens=1) for i in range(4)]
        rows.append(benchmark.score(item, answers))
    scores = {score.metric: score for score in benchmark.summarise(rows)}
    assert scores["acc"].value == pytest.approx(4 / 6)
    assert scores["acc/astronomy"].value == 0.5
    assert scores["acc/virology"].n == 4
    errors = [mean_stderr(values) for values in right.values()]
    assert scores["acc"].stderr == pytest.approx(pooled_sample_stderr(errors, [2, 4]))


@pytest.mark.covers("evaluator/mmlu.subjects")
def test_mmlu_takes_the_subjects_that_are_asked_for(evaluator, invented, tmp_path, write):
    """From folders or from one file with all; a subject that MMLU has not is an error at once."""
    rows = [
        {**row, "subject": s} for s in ("anatomy", "virology") for row in invented["mmlu"]["test"]
    ]
    file = write(tmp_path / "all.jsonl", rows)
    items = list(evaluator("mmlu", rows=str(file), shots=0, subjects=["virology"]).items())
    assert [item.id for item in items] == ["virology/0", "virology/1"]
    both = list(evaluator("mmlu", rows=str(file), shots=0).items())
    assert len(both) == 4
    with pytest.raises(ValueError, match="no subject 'virologie'; there are abstract_algebra"):
        evaluator("mmlu", subjects=["virologie"])


def test_wrong_rows_are_named_counted_and_survived(evaluator, write, tmp_path, caplog):
    """A broken line, a missing field, a label out of range or absent: the others are scored."""
    wrong = ["{broken", _row(label="7"), {"ctx_a": "only"}, _row(label=""), "[1]", _row(label="-1")]
    file = write(tmp_path / "rows.jsonl", [_row(), *wrong, _row(endings=5)])
    benchmark = evaluator("hellaswag", rows=str(file))
    scores = _scores(benchmark, [(-1.0, -2.0, -3.0, -4.0)])
    assert (scores["acc"].value, scores["acc"].stderr, scores["acc"].n) == (1.0, None, 1)
    assert scores["malformed"].value == 5
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert any("2 of 8 rows cannot be read" in m and f"{file}:2: " in m for m in told)
    assert any(
        "5 rows cannot be used" in m and "row 1: the right choice is 7, of 4" in m for m in told
    )


def test_a_file_in_which_nothing_is_right_is_an_error(evaluator, write, tmp_path):
    """It says what is wrong with the first row, and what would be right."""
    file = write(tmp_path / "rows.jsonl", [_row(label=""), _row(label="")])
    with pytest.raises(RunError, match=r"hellaswag: no row can be used; row 0: .*on the hub"):
        list(evaluator("hellaswag", rows=str(file)).items())
    write(file, ["{", "["])
    with pytest.raises(
        RunError, match=r"hellaswag: no row of 'validation' can be read: .*jsonl:1: "
    ):
        list(evaluator("hellaswag", rows=str(file)).items())


def test_an_empty_choice_is_counted_and_never_the_best_per_character(evaluator, write, tmp_path):
    """As in lm-eval, whose division by its length of 0 gives minus infinity."""
    file = write(
        tmp_path / "rows.jsonl", [_row(endings=["kneads.", "[title]", "flies.", "paints."])]
    )
    scores = _scores(evaluator("hellaswag", rows=str(file)), [(-5.0, -0.1, -9.0, -9.0)])
    assert scores["acc"].value == 0.0
    assert scores["acc_norm"].value == 1.0
    assert scores["empty_choice"].value == 1


def test_a_context_that_is_too_short_for_a_row_is_counted(evaluator, write, tmp_path):
    """The model did not see the whole prompt: the figure says how often."""
    file = write(tmp_path / "rows.jsonl", [_row(), _row()])
    scores = _scores(
        evaluator("hellaswag", rows=str(file)), [(-1.0, -2.0, -3.0, -4.0)] * 2, truncated=True
    )
    assert (scores["truncated"].value, scores["truncated"].n) == (2, 2)
    assert not scores["truncated"].higher_is_better


def test_a_model_that_diverged_gets_a_score(evaluator, write, tmp_path, folder):
    """NaN everywhere is no reason to stop a run."""
    file = write(tmp_path / "rows.jsonl", [_row()])
    scores = _scores(evaluator("hellaswag", rows=str(file)), [(math.nan,) * 4])
    assert scores["acc"].n == 1
    benchmark = evaluator("truthful-qa", rows=str(folder))
    item = next(iter(benchmark.items()))
    answers = [Response(logprob=math.nan, tokens=1)] * 7
    assert benchmark.score(item, answers)["mc2"] == 0.0


def test_a_row_is_never_its_own_example(evaluator, write, tmp_path):
    """Examples from the file that is scored leave the row out, also where it stands there twice."""
    rows = [_row(activity_label=f"Act {i}") for i in range(4)]
    file = write(tmp_path / "rows.jsonl", [*rows, rows[0]])
    for item in evaluator("hellaswag", rows=str(file), shots=3).items():
        first, *others = reversed(item.requests[0].context.split("\n\n"))
        label = first.split(":")[0]
        assert len(others) == 3
        assert all(not other.startswith(label) for other in others)


def test_too_few_examples_are_an_error_that_counts_them(evaluator, folder):
    """Rather than a prompt with fewer."""
    with pytest.raises(
        RunError, match="mmlu/astronomy: 9 examples before each row, but only 6 rows"
    ):
        list(evaluator("mmlu", rows=str(folder), subjects=["astronomy"], shots=9).items())
