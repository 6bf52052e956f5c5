"""Tasks of a user's folder have the figures of lm-eval's own run, in a spec and beside training."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from engine_evals.config import LmEval
from support.internals import Process, evaluate
from support.lm_eval_tasks import GROUP, TASKS

from engine import RunError

WORDS = "the cat sat on a mat and saw one small grey mouse that ran under two old chairs".split()


@pytest.fixture(scope="module")
def include(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of tasks on rows of different lengths and right answers."""
    folder = tmp_path_factory.mktemp("tasks")
    files = {}
    for split, count in (("train", 6), ("test", 12)):
        rows = [
            {
                "n": n,
                "gold": n * n % 3,
                "words": ["that", "sat", "the"],
                "text": " ".join(WORDS[n : n + 2 + n % 7] * (1 + n % 4)),
            }
            for n in range(count)
        ]
        files[split] = str(folder / f"{split}.jsonl")
        Path(files[split]).write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = {
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files, "cache_dir": str(folder / "cache")},
        "test_split": "test",
    }
    for name, task in TASKS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump({"task": name, **data, **task}))
    (folder / "group.yaml").write_text(yaml.safe_dump(GROUP))
    return folder


@pytest.fixture(scope="module")
def lm_eval(include: Path) -> Callable[..., Any]:
    """Builds the evaluator on these tasks."""
    from engine_evals.lm_eval_tasks.evaluator import build

    def make(*tasks: str, **fields: Any) -> Any:
        return build(LmEval(tasks=tasks, include=str(include), **fields), None)

    return make


NAMES = ("tiny_group", "tiny_last_word", "tiny_text", "tiny_words")


@pytest.fixture(scope="module")
def model_folder(taught: Callable[[int, float], Path]) -> Path:
    """A model that has learnt enough to answer rightly now and then, also without examples."""
    return taught(60, 3e-3)


@pytest.fixture(scope="module")
def lm_evals_own(include: Path, model_folder: Path) -> Callable[..., Any]:
    """Results of lm-eval on the tiny model."""
    from engine_evals.lm_eval_tasks.loading import _manager
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    model = HFLM(pretrained=str(model_folder), device="cpu", dtype="float32", batch_size=4)

    def results(tasks: Sequence[str], shots: int | None) -> dict[str, Any]:
        found = simple_evaluate(
            model=model, tasks=list(tasks), num_fewshot=shots, task_manager=_manager(str(include))
        )
        return found["results"]

    return results


@pytest.fixture(scope="module")
def language_model(model_folder: Path) -> Any:
    """The tiny model as the engine sees it."""
    from engine_inference.language_model import SharedPrefixLM
    from support.internals import Artifact

    artifact = Artifact(model_folder)
    return SharedPrefixLM(artifact.model().eval(), artifact.tokenizer())


@pytest.mark.covers("evaluator/lm-eval.tasks", "evaluator/lm-eval.shots")
@pytest.mark.parametrize("shots", [None, 2])
def test_figures_and_standard_errors_are_lm_evals(
    shots, lm_eval, language_model, lm_evals_own, capsys
):
    """Of choices, single words, whole texts, filtered generations and a group; without a word."""
    capsys.readouterr()
    scores = {
        s.metric: s
        for s in evaluate(lm_eval(*NAMES, shots=shots), language_model, Process()).scores
    }
    assert capsys.readouterr() == ("", "")
    compared = set()
    for task, figures in lm_evals_own(NAMES, shots).items():
        for key, value in figures.items():
            metric, _, chosen = key.partition(",")
            if not chosen or metric.endswith("_stderr"):
                continue
            score = scores[f"{metric if chosen == 'none' else key}/{task}"]
            error = figures[f"{metric}_stderr,{chosen}"]
            print(f"{score.metric}: {score.value!r} ± {score.stderr}; lm-eval {value!r} ± {error}")
            exact = metric.startswith(("acc", "exact_match", "bleu"))
            near = {"abs": 1e-12} if exact else {"rel": 1e-6}
            if metric.endswith("perplexity"):  # of the log-likelihood in it
                assert math.log(score.value) == pytest.approx(math.log(value), **near)
                near = {"rel": 1e-4}
            assert score.value == pytest.approx(value, **near)
            assert score.stderr == (None if error == "N/A" else pytest.approx(error, **near))
            assert score.n == figures["sample_len"]
            compared.add(score.metric)
    assert compared == set(scores)
    assert "acc/tiny_group" in compared
    assert 0 < scores["exact_match,first-word/tiny_words"].value < 1
    assert 0 < scores["bleu,whole/tiny_words"].value < 100
    assert not scores["perplexity/tiny_last_word"].higher_is_better
    assert scores["acc/tiny_choice"].higher_is_better


def test_shots_are_worked_examples_where_a_task_allows_them(lm_eval, caplog):
    """They are the task's own draw; a task that says it has none has none, and one is told."""
    asked = lm_eval("tiny_choice", "tiny_asks_for_none", shots=2)
    choice, none = (item.requests[0].context for item in islice(asked.items(), 2))
    assert choice.count(": the") == 3
    assert none.count(": the") == 1
    assert "'tiny_asks_for_none' has 0 shots by its own rule, not 2" in caplog.text


def test_kept_rows_come_to_the_same_figures(lm_eval, language_model, tmp_path):
    """Also where a metric keeps pairs and arrays: rows are JSON before they are summed up."""
    file = tmp_path / "rows.jsonl"
    first = evaluate(lm_eval(*NAMES), language_model, Process(), rows_file=file).scores
    kept = file.with_name("rows.0.jsonl").read_text()
    again = evaluate(lm_eval(*NAMES), language_model, Process(), rows_file=file).scores
    assert first == again
    assert len(kept.splitlines()) == 5 * 12
    assert file.with_name("rows.0.jsonl").read_text() == kept


def test_training_draws_the_same_numbers_with_or_without_it(lm_eval, language_model):
    """lm-eval's seeds are its own: a resumed run stays exact."""
    random.seed(7)
    np.random.seed(7)
    before = random.getstate(), np.random.get_state()[1].tolist()
    evaluate(lm_eval("tiny_choice", limit=2), language_model, Process(), limit=2)
    assert (random.getstate(), np.random.get_state()[1].tolist()) == before


@pytest.mark.covers(
    "evaluator/lm-eval.every", "evaluator/lm-eval.limit", "evaluator/lm-eval.include"
)
def test_it_runs_in_a_spec(tiny_spec, run_here, include):
    """As often as asked, on the folder's tasks, which take turns up to the limit."""
    tiny_spec["stages"]["base"]["train"]["evaluate"] = [
        {
            "type": "lm-eval",
            "tasks": ["tiny_choice", "tiny_text"],
            "include": str(include),
            "every": "3 steps",
            "limit": 5,
        }
    ]
    found = run_here(tiny_spec, allow=["code"]).events("score")
    told = {(e["step"], e["metric"]): e["n"] for e in found if e["evaluator"] == "lm-eval"}
    for step in (3, 6):
        assert told[step, "acc/tiny_choice"] == 3
        assert told[step, "bits_per_byte/tiny_text"] == 2
    assert {step for step, _ in told} == {3, 6}


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ("helaswag", "lm-eval has no task 'helaswag'; did you mean hellaswag"),
        ("qqqqqqqqqqqq", "lm-eval has no task 'qqqqqqqqqqqq'; `lm-eval ls tasks` lists them"),
        ("humaneval", "'humaneval' runs what the model writes.*; the types humaneval and mbpp"),
        ("humaneval_instruct", "runs what the model writes"),
        ("mmmu_val_accounting", "is for models that see or hear"),
        ("tiny_beams", "no model here obeys length_penalty, num_beams; leave them out"),
        ("tiny_nowhere", "'tiny_nowhere': loading it: .*; data are downloaded from the hub once"),
    ],
)
def test_what_cannot_be_asked_is_refused_with_the_reason(task, told, lm_eval, capsys):
    """In a line, as the evaluator is built: no step is trained in vain."""
    with pytest.raises(RunError, match=told) as raised:
        lm_eval(task)
    assert len(str(raised.value).splitlines()) == 1
    assert capsys.readouterr() == ("", "")


def test_a_task_is_asked_once(lm_eval):
    """A group that has it, too, would count it twice."""
    with pytest.raises(RunError, match="'tiny_choice' again; name it once"):
        lm_eval("tiny_group", "tiny_choice")


def test_a_folder_that_is_not_there_is_the_specs_error():
    """Before anything runs."""
    with pytest.raises(ValueError, match="no folder 'nowhere'"):
        LmEval(tasks=("x",), include="nowhere")


def test_standard_errors_take_seconds_however_many_values_there_are():
    """F1 has no formula and a slow function: a thousand resamples tell its error well enough."""
    from engine_evals.lm_eval_tasks.evaluator import _figures
    from engine_evals.lm_eval_tasks.isolation import isolated
    from lm_eval.api.metrics import f1_score

    class Task:
        def aggregation(self) -> dict[str, Any]:
            return {"f1": f1_score}

    pairs = [[n % 2, n % 3 == 0] for n in range(120)]
    with isolated():
        found = _figures(Task(), {"f1,none": pairs})
    assert found["f1,none"] == pytest.approx(f1_score(pairs))
    generator = np.random.default_rng(0)
    drawn = np.array(pairs, dtype=float)[generator.integers(0, 120, (4000, 120))]
    right = (drawn[..., 0] * drawn[..., 1]).sum(1)
    spread = (2 * right / drawn.sum((1, 2))).std()
    assert found["f1_stderr,none"] == pytest.approx(spread, rel=0.08)
