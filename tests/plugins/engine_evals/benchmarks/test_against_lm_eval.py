"""The same prompts, log-likelihoods, accuracies and standard errors as lm-eval's."""

from __future__ import annotations

import json
import math
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from lm_eval.evaluator import evaluate

from engine import Response

TYPES = (
    "mmlu hellaswag commonsense-qa arc-easy arc-challenge piqa winogrande boolq openbook-qa "
    "social-iqa truthful-qa gsm8k math"
).split()
TASKS = {"truthful-qa": ("truthfulqa/truthfulqa_mc1.yaml", "truthfulqa/truthfulqa_mc2.yaml")}
DEFAULTS = {"mmlu": 5, "gsm8k": 5, "math": 4}


def _asked_by_lm_eval(task: Any) -> list[list[Any]]:
    """Arguments of all requests, by row."""
    task.build_all_requests()
    rows: dict[int, list[Any]] = {}
    for instance in task.instances:
        rows.setdefault(instance.doc_id, []).append(instance.args)
    return list(rows.values())


def _asked_by_us(items: list[Any]) -> list[list[Any]]:
    return [
        [
            (r.context, r.continuation) if hasattr(r, "context") else (r.prompt, r.stop)
            for r in item.requests
        ]
        for item in items
    ]


def _stops(asked: list[list[Any]]) -> list[list[Any]]:
    """Generation's settings reduced to what the prompt's end is."""
    return [
        [(a, tuple(b["until"])) if isinstance(b, dict) else (a, b) for a, b in row] for row in asked
    ]


@pytest.mark.covers(*(f"evaluator/{name}.{field}" for name in TYPES for field in ("rows", "shots")))
@pytest.mark.parametrize("shots", [0, None, 3])
@pytest.mark.parametrize("name", TYPES)
def test_prompts_are_lm_evals_to_the_byte(name, shots, evaluator, invented, folder, lm_eval_task):
    """Descriptions, examples and their draw, delimiters, choices and stops."""
    fields = {"rows": str(folder)} | ({} if shots is None else {"shots": shots})
    fields |= {"subjects": ["astronomy"]} if name == "mmlu" else {}
    if name == "math":
        fields["rows"] = str(folder / "math" / "algebra" / "test.jsonl")
    ours = _asked_by_us(list(evaluator(name, **fields).items()))
    wanted = DEFAULTS.get(name, 0) if shots is None else shots
    theirs: list[list[Any]] = [[] for _ in ours]
    for task in TASKS.get(name, (name,)):
        asked = _asked_by_lm_eval(lm_eval_task(task, invented[name], wanted))
        for row, more in zip(theirs, _stops(asked), strict=True):
            row += more
    assert ours == theirs


REAL = {  # type: file of real rows, and of those that examples come from, with lm-eval's splits
    "hellaswag": {"validation": "hellaswag_val_sample", "train": "hellaswag_val_sample"},
    "commonsense-qa": {"validation": "commonsenseqa_dev_sample", "train": "commonsenseqa_dev_sample"},
    "mmlu": {"test": "mmlu_astronomy_test", "dev": "mmlu_astronomy_dev"},
    "gsm8k": {"test": "gsm8k_test_sample", "train": "gsm8k_train_sample"},
}  # fmt: skip


@pytest.fixture(scope="session")
def models(small_model: Path, wide_model: Path) -> dict[str, tuple[Any, Any]]:
    """Ours and lm-eval's view of each model, by name."""
    from engine_inference.language_model import SharedPrefixLM
    from lm_eval.models.huggingface import HFLM
    from support.internals import Artifact

    found = {}
    for name, folder in (("small", small_model), ("wide", wide_model)):
        artifact = Artifact(folder)
        ours = SharedPrefixLM(artifact.model().eval(), artifact.tokenizer())
        theirs = HFLM(pretrained=str(folder), device="cpu", dtype="float32", batch_size=8)
        found[name] = (ours, theirs)
    return found


@pytest.mark.parametrize(("model", "learnt"), [("small", 2.0), ("wide", 3.0)])
def test_the_models_have_learnt_from_real_text(model, learnt, models):
    """What was held out costs them so many nats a token less than an untrained one, and less than
    knowing how often each token comes would: they know what follows what."""
    import numpy as np
    from support.internals import Shards

    lm, _ = models[model]
    run = Path(lm.tokenizer.name_or_path).parents[1]
    events = map(json.loads, (run / "events.jsonl").read_text(encoding="utf-8").splitlines())
    scores = {e["metric"]: e["value"] for e in events if e["event"] == "score"}
    loss, untrained = math.log(scores["perplexity"]), math.log(len(lm.tokenizer))
    read = Shards.open(run / "corpus" / "shards" / "0")
    counts = np.bincount(read.tokens(0, read.n_tokens))
    shares = counts[counts > 0] / counts.sum()
    frequencies = -(shares * np.log(shares)).sum()
    print(f"{model}: {loss:.2f} nats, by frequencies {frequencies:.2f}, untrained {untrained:.2f}")
    assert loss < untrained - learnt
    assert loss < frequencies


@pytest.mark.parametrize(
    ("name", "shots", "model"),
    [
        ("hellaswag", 0, "small"),
        ("hellaswag", 0, "wide"),
        ("hellaswag", 2, "small"),
        ("commonsense-qa", 0, "small"),
        ("commonsense-qa", 0, "wide"),
        ("mmlu", 5, "small"),
        ("mmlu", 5, "wide"),
    ],
)
def test_likelihoods_and_accuracies_are_lm_evals(
    name, shots, model, models, evaluator, real_rows, write, tmp_path, lm_eval_task
):
    """Log P to 1e-3, every metric with its standard error exactly, on real rows."""
    ours, theirs = models[model]
    limit = 40
    splits = {split: real_rows(file) for split, file in REAL[name].items()}
    part = "astronomy" if name == "mmlu" else ""
    for split, rows in splits.items():
        write(tmp_path / "rows" / name / part / f"{split}.jsonl", rows)
    more = {"subjects": ["astronomy"]} if part else {}
    benchmark = evaluator(name, rows=str(tmp_path / "rows"), shots=shots, **more)
    items = list(islice(benchmark.items(), limit))
    responses = iter(ours.loglikelihoods([r for item in items for r in item.requests]))
    answered = [list(islice(responses, len(item.requests))) for item in items]
    rows = [benchmark.score(item, row) for item, row in zip(items, answered, strict=True)]
    scores = {score.metric: score for score in benchmark.summarise(rows)}

    task = lm_eval_task(name, splits, shots)
    found = _evaluated(task, theirs, limit)
    logprobs = [
        [float(answer[0]) for answer in sample["filtered_resps"]] for sample in found["samples"]
    ]
    differences = [
        abs(a.logprob - b)
        for ours_, theirs_ in zip(answered, logprobs, strict=True)
        for a, b in zip(ours_, theirs_, strict=True)
    ]
    print(f"{name}, {shots} shots, {model}: largest difference {max(differences):.2e}")
    assert max(differences) < 1e-3
    for metric in benchmark.metrics:
        assert scores[metric].value == pytest.approx(found[f"{metric},none"], abs=1e-12)
        assert scores[metric].stderr == pytest.approx(found[f"{metric}_stderr,none"], abs=1e-12)
        assert scores[metric].n == limit


def _evaluated(task: Any, lm: Any, limit: int) -> dict[str, Any]:
    """lm-eval's results of one task, and its samples in the rows' order."""
    found = evaluate(lm=lm, task_dict={"it": task}, limit=limit, bootstrap_iters=2)
    samples = sorted(found["samples"]["it"], key=lambda sample: sample["doc_id"])
    return {**found["results"]["it"], "samples": samples}


ANSWERS = [
    "He needs 4*5.\n#### 20",
    "#### 20.",
    "so 20",
    "It is $20.00",
    "#### 1 no, #### 20",
    "The answer is 19. Or 20? 20",
    "nothing",
    "",
    "#### -20",
    "#### 2,0",
]


def test_gsm8k_finds_the_numbers_that_lm_eval_finds(evaluator, invented, folder, lm_eval_task):
    """Strictly after ####, and the last one anywhere; commas, dollars and full stops aside."""
    benchmark = evaluator("gsm8k", rows=str(folder), limit=1)
    item = next(iter(benchmark.items()))
    task = lm_eval_task("gsm8k", invented["gsm8k"])
    task.build_all_requests(limit=1)
    (instance,) = task.instances
    for answer in ANSWERS:
        instance.resps = [answer]
        task.apply_filters()
        right = {
            name: task.process_results(instance.doc, [found])["exact_match"]
            for name, found in instance.filtered_resps.items()
        }
        row = benchmark.score(item, [Response(text=answer, tokens=9)])
        ours = {
            "strict-match": row["exact_match"],
            "flexible-extract": row["exact_match_flexible"],
        }
        assert ours == right, answer


@pytest.mark.parametrize(
    "answer", ["It is $2$.", r"$\boxed{\frac{4}{2}}$", "$3$", "2.0", "It is 2", "none", ""]
)
def test_math_agrees_with_lm_evals_math_verify(answer, evaluator, invented, folder, lm_eval_task):
    """Both read the answer out of the whole solution, and out of whatever the model wrote."""
    from math_verify import parse, verify

    file = folder / "math" / "algebra" / "test.jsonl"
    benchmark = evaluator("math", rows=str(file))
    item = next(iter(benchmark.items()))
    row = benchmark.score(item, [Response(text=answer, tokens=9)])
    expected = verify(gold=parse(invented["math"]["test"][0]["solution"]), target=parse(answer))
    assert row["math_verify"] == float(expected)


def test_generations_are_lm_evals(models, evaluator, real_rows, write, tmp_path, lm_eval_task):
    """The same truncation on the left, stops and likeliest tokens; and the same scores."""
    ours, theirs = models["small"]
    splits = {split: real_rows(file) for split, file in REAL["gsm8k"].items()}
    for split, rows in splits.items():
        write(tmp_path / "rows" / "gsm8k" / f"{split}.jsonl", rows)
    benchmark = evaluator("gsm8k", rows=str(tmp_path / "rows"))
    items = list(islice(benchmark.items(), 3))
    answers = ours.answer([item.requests[0] for item in items])
    found = _evaluated(lm_eval_task("gsm8k", splits), theirs, 3)
    texts = {sample["doc_id"]: sample["resps"][0][0] for sample in found["samples"]}
    assert [answer.text for answer in answers] == [texts[i] for i in range(3)]
