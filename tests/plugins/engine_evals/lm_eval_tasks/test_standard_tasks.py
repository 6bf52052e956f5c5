"""Tasks that lm-eval ships, on rows that are here: the figures are those of its own run."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from pydoc_data.topics import topics
from typing import Any

import lm_eval.tasks
import pytest
import yaml
from engine_evals.config import LmEval
from engine_evals.lm_eval_tasks import loading
from engine_evals.lm_eval_tasks.evaluator import build
from engine_inference.language_model import SharedPrefixLM
from lm_eval import simple_evaluate
from support.internals import Artifact, Process, evaluate

SHIPPED = Path(lm_eval.tasks.__file__).parent
REAL = {  # task: its YAML, and the files of real rows by split
    "hellaswag": ("hellaswag/hellaswag.yaml", {"validation": "hellaswag_val_sample"}),
    "commonsense_qa": (
        "commonsense_qa/default.yaml",
        {"validation": "commonsenseqa_dev_sample", "train": "commonsenseqa_dev_sample"},
    ),
    "mmlu_astronomy": (
        "mmlu/default/mmlu_astronomy.yaml",
        {"test": "mmlu_astronomy_test", "dev": "mmlu_astronomy_dev"},
    ),
    "gsm8k": (
        "gsm8k/gsm8k.yaml",
        {"test": "gsm8k_test_sample", "train": "gsm8k_train_sample"},
    ),
}
INVENTED = {  # task: its YAML, and the benchmark whose rows it has
    "arc_easy": ("arc/arc_easy.yaml", "arc-easy"),
    "piqa": ("piqa/piqa.yaml", "piqa"),
    "boolq": ("super_glue/boolq/default.yaml", "boolq"),
}
TEXTS = {  # task: its YAML, and the field of its texts, which are Python's documentation
    "lambada_openai": ("lambada/lambada_openai.yaml", "text"),
    "wikitext": ("wikitext/wikitext.yaml", "page"),
}
ROWS = 8


@pytest.fixture(scope="module")
def models(small_model: Path) -> tuple[Any, Any]:
    """Ours and lm-eval's view of the trained model."""
    from lm_eval.models.huggingface import HFLM

    artifact = Artifact(small_model)
    theirs = HFLM(pretrained=str(small_model), device="cpu", dtype="float32", batch_size=4)
    return SharedPrefixLM(artifact.model().eval(), artifact.tokenizer()), theirs


@pytest.fixture
def rows(real_rows, invented) -> Callable[[str], tuple[str, dict[str, list[Any]]]]:
    """A task's YAML, and its rows by split."""

    def find(task: str) -> tuple[str, dict[str, list[Any]]]:
        if task in REAL:
            shipped, files = REAL[task]
            return shipped, {split: real_rows(file, 40)[-ROWS:] for split, file in files.items()}
        if task in INVENTED:
            shipped, name = INVENTED[task]
            return shipped, invented[name]
        shipped, field = TEXTS[task]
        texts = [" ".join(text.split()[:150]) for _, text in sorted(topics.items())[:ROWS]]
        return shipped, {"test": [{field: text} for text in texts]}

    return find


@pytest.fixture
def installed(rows, write, tmp_path, monkeypatch) -> Callable[[str], Any]:
    """Makes lm-eval's index of a shipped task alone, as shipped but for its rows' place."""

    def install(task: str) -> Any:
        shipped, splits = rows(task)
        files = {
            split: str(write(tmp_path / f"{split}.jsonl", found)) for split, found in splits.items()
        }
        absent = {"training_split": None} if "train" not in splits else {}
        absent |= {"validation_split": None} if "validation" not in splits else {}
        here = {
            "include": str(SHIPPED / shipped),
            "dataset_path": "json",
            "dataset_name": None,
            "dataset_kwargs": {"data_files": files, "cache_dir": str(tmp_path / "cache")},
            **absent,
        }
        (tmp_path / "tasks").mkdir()
        (tmp_path / "tasks" / "task.yaml").write_text(yaml.safe_dump(here), encoding="utf-8")
        # Looking through all 14,000 tasks would take six seconds for each.
        manager = lm_eval.tasks.TaskManager(
            include_path=str(tmp_path / "tasks"), include_defaults=False
        )
        monkeypatch.setattr(loading, "_manager", lambda include: manager)
        return manager

    return install


@pytest.mark.parametrize("task", [*REAL, *INVENTED, *TEXTS])
def test_shipped_tasks_give_lm_evals_figures(task, installed, models, tmp_path):
    """Prompts, functions, filters, metrics and standard errors are as shipped; only the rows'
    place is another. Texts and accuracies are the same, log P of each answer to 1e-3."""
    ours, theirs = models
    manager = installed(task)
    results = simple_evaluate(model=theirs, tasks=[task], task_manager=manager, log_samples=True)
    evaluator = build(LmEval(tasks=[task], include=str(tmp_path / "tasks")), None)
    kept = tmp_path / "answers.jsonl"
    scores = {s.metric: s for s in evaluate(evaluator, ours, Process(), rows_file=kept).scores}
    answers = map(json.loads, filter(None, _lines(kept.with_name("answers.0.jsonl"))))
    ours_by_id = {
        row["id"]: [_answer(response) for response in row["responses"]] for row in answers
    }
    theirs_by_id = {
        f"{task}/{sample['doc_id']}": [_first(answer) for (answer,) in sample["resps"]]
        for sample in results["samples"][task]
    }
    assert ours_by_id.keys() == theirs_by_id.keys()
    for number, answered in theirs_by_id.items():
        assert ours_by_id[number] == pytest.approx(answered, abs=1e-3)
        assert all(answered), "no text is empty, no log P nought"
    found = results["results"][task]
    compared = set()
    for key, value in found.items():
        metric, _, chosen = key.partition(",")
        if not chosen or metric.endswith("_stderr"):
            continue
        score = scores[f"{metric if chosen == 'none' else key}/{task}"]
        error = found[f"{metric}_stderr,{chosen}"]
        print(f"{score.metric}: {score.value!r} ± {score.stderr}; lm-eval {value!r} ± {error}")
        near = {"abs": 1e-12} if metric.startswith(("acc", "exact_match")) else {"rel": 1e-6}
        if metric.endswith("perplexity"):  # e to the power of what agrees to 1e-6
            near = {"rel": 1e-4}
        assert score.value == pytest.approx(value, **near)
        assert score.stderr == (None if error == "N/A" else pytest.approx(error, **near))
        assert score.n == found["sample_len"]
        compared.add(score.metric)
    assert compared == set(scores)
    assert compared


QUESTIONS = {  # task: question, answer and passage, by the row
    "hellaswag": lambda row: (..., row["endings"][int(row["label"])], None),
    "commonsense_qa": lambda row: (row["question"], _lettered(row["choices"], row), None),
    "mmlu_astronomy": lambda row: (row["question"], row["choices"][row["answer"]], None),
    "gsm8k": lambda row: (row["question"], row["answer"], None),
    "arc_easy": lambda row: (row["question"], _lettered(row["choices"], row), None),
    "piqa": lambda row: (row["goal"], [row["sol1"], row["sol2"]][row["label"]], None),
    "boolq": lambda row: (
        f"{row['passage']}\nQuestion: {row['question']}?",
        ["no", "yes"][row["label"]],
        None,
    ),
    "lambada_openai": lambda row: (*row["text"].rsplit(" ", 1), None),
    "wikitext": lambda row: (None, ..., None),
}


@pytest.mark.parametrize("task", QUESTIONS)
def test_shipped_tasks_tell_their_questions(task, installed, rows, tmp_path):
    """Without examples and the template's words; the answer by its text where the prompt has letters.
    Neither model nor tokenizer is needed, and a limit leaves no document out."""
    _, splits = rows(task)
    documents = splits["test"] if "test" in splits else splits["validation"]
    installed(task)
    evaluator = build(LmEval(tasks=[task], include=str(tmp_path / "tasks"), limit=1), None)
    texts = evaluator.texts()
    assert [one.id for one in texts] == [f"{task}/{n}" for n in range(len(documents))]
    for found, document in zip(texts, documents, strict=True):
        wanted = QUESTIONS[task](document)
        told = (found.question, found.answer, found.passage)
        assert [one for one in wanted if one is not ...] == [
            one and one.strip() for one, other in zip(told, wanted, strict=True) if other is not ...
        ]
        assert found.question or found.answer
    assert texts == evaluator.texts()


def _lettered(choices: Mapping[str, list[str]], row: Mapping[str, Any]) -> str:
    """The text of the right option."""
    return choices["text"][choices["label"].index(row["answerKey"])]


def _lines(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines()


def _answer(kept: Mapping[str, Any]) -> str | float:
    """A kept answer's text or log P; what is usual is left out of it."""
    return kept["text"] if "text" in kept else kept.get("logprob", 0.0)


def _first(answer: Any) -> str | float:
    """lm-eval's text or log P, of which it may say beside it whether it is the likeliest."""
    return answer if isinstance(answer, str | float) else answer[0]
