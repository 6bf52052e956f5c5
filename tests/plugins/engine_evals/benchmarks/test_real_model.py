"""A real instruct model of 135M parameters: tuned on real conversations, asked, scored and taught."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
import yaml
from lm_eval.evaluator import evaluate
from support.smollm2 import smollm2

from engine.testing import run_spec

pytestmark = [pytest.mark.soak, pytest.mark.timeout(7200), pytest.mark.filterwarnings("ignore")]
ROWS = 40
ASKED = "What is the capital of France?"


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    return smollm2(tmp_path_factory.mktemp("smollm2"))


def _spec(folder: Path, stages):
    file = folder / "spec.yaml"
    spec = {"engine": 1, "name": "real", "seed": 5, "stages": stages}
    file.write_text(yaml.safe_dump(spec), encoding="utf-8")
    return file


def _messages(dialogue):
    """The turns of a dialogue of Anthropic's HH."""
    said = re.split(r"\n\n(Human|Assistant): ?", dialogue)[1:]
    roles = ("user" if who == "Human" else "assistant" for who in said[::2])
    return [{"role": r, "content": c.strip()} for r, c in zip(roles, said[1::2], strict=True)]


def _scores(run):
    return {(e["model"], e["metric"]): e for e in run.events if e["event"] == "score"}


@pytest.fixture(scope="session")
def tuned(model, real_rows, tmp_path_factory):
    """A run that tunes a LoRA on real conversations, in the model's own template."""
    folder = tmp_path_factory.mktemp("tuned")
    rows = [{"messages": _messages(row["chosen"])} for row in real_rows("hh_harmless_sample")]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "conversations.jsonl").write_text(text, encoding="utf-8")
    place = folder / "rows" / "hellaswag"
    place.mkdir(parents=True)
    for split in ("train", "validation"):
        lines = (json.dumps(row) + "\n" for row in real_rows("hellaswag_val_sample"))
        (place / f"{split}.jsonl").write_text("".join(lines), encoding="utf-8")
    base = {"type": "pretrained", "path": str(model)}
    adapter = {"type": "lora", "r": 16}
    hellaswag = {"type": "hellaswag", "rows": str(folder / "rows"), "shots": 0, "limit": ROWS}
    stages = {
        "tuned": {
            "train": {
                "model": {**base, "adapter": adapter},
                "data": {"type": "files", "paths": [str(folder / "conversations.jsonl")]},
                "holdout": "10%",
                "objective": {"type": "sft", "pad_token": "<|endoftext|>"},
                "optimizer": {"type": "adamw", "lr": 5e-4},
                "batch": {"tokens": 4096, "sequence": 1024},
                "budget": "1 epochs",
            }
        },
        "scores": {
            "evaluate": {
                "models": [base, "tuned"],
                "data": "tuned",
                "evaluators": [{"type": "answer-perplexity"}, hellaswag],
            }
        },
    }
    return run_spec(_spec(folder, stages), folder / "runs")


def test_it_learns_real_conversations(tuned):
    """Answers that it has not seen cost it fewer nats a token, and no conversation is refused."""
    scores = _scores(tuned)
    before, after = (v for (_, metric), v in scores.items() if metric == "perplexity")
    print(f"\n{before['model']} {before['value']:.2f}, {after['model']} {after['value']:.2f}")
    assert after["value"] < 0.9 * before["value"]
    assert not [e for e in tuned.events if e["event"] == "warning"]


@pytest.mark.parametrize("stage", [None, "tuned"])
def test_it_is_scored_as_by_lm_eval(stage, tuned, model, real_rows, lm_eval_task):
    """With every metric's standard error, before it was tuned and after."""
    from lm_eval.models.huggingface import HFLM
    from support.internals import Artifact

    folder = tuned.folder / "tuned" / "final" if stage else model
    opened = Artifact(folder) if stage else None
    theirs = HFLM(
        pretrained=opened.model().eval() if opened else str(folder),
        tokenizer=opened.tokenizer() if opened else None,
        device="cpu", dtype="float32", batch_size=8, max_length=1024,
    )  # fmt: skip
    splits = {split: real_rows("hellaswag_val_sample") for split in ("train", "validation")}
    task = lm_eval_task("hellaswag", splits, 0)
    found = evaluate(lm=theirs, task_dict={"it": task}, limit=ROWS, bootstrap_iters=2)["results"][
        "it"
    ]
    scores = {m: e for (name, m), e in _scores(tuned).items() if (name == "tuned") == bool(stage)}
    for metric in ("acc", "acc_norm"):
        print(f"\n{stage or 'as it came'}: {metric} {scores[metric]['value']:.3f}")
        assert scores[metric]["value"] == pytest.approx(found[f"{metric},none"], abs=1e-12)
        assert scores[metric]["stderr"] == pytest.approx(found[f"{metric}_stderr,none"], abs=1e-12)


def test_it_answers_as_in_transformers(tuned, engine):
    """The likeliest answer to a question in its template, to its own end of turn."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    stage, target = tuned.folder / "tuned", tuned.folder.parent / "exported"
    limits = ("--temperature", "0", "--max-tokens", "80")
    talk = engine("chat", stage, *limits, input=ASKED + "\n").stdout
    print(talk)
    engine("export", stage, target)
    words = AutoTokenizer.from_pretrained(target)
    model = AutoModelForCausalLM.from_pretrained(target).eval()
    ids = words.apply_chat_template(
        [{"role": "user", "content": ASKED}],
        add_generation_prompt=True, return_tensors="pt", return_dict=True,
    )  # fmt: skip
    answer = model.generate(**ids, max_new_tokens=80, do_sample=False)[
        0, ids["input_ids"].shape[1] :
    ]
    assert int(answer[-1]) == words.convert_tokens_to_ids("<|im_end|>")
    assert words.decode(answer, skip_special_tokens=True).strip() in talk


def test_right_answers_teach_it_to_add(model, tmp_path, monkeypatch):
    """By `grpo`, after a look at what an answer is to be, on sums that it has not seen."""
    monkeypatch.delenv(
        "ENGINE_PRECISION"
    )  # the machine's own, as figures are compared with no other's
    draw = random.Random(3)
    rows = (
        {
            "prompt": [{"role": "user", "content": f"What is {a} + {b}?"}],
            "completion": [{"role": "assistant", "content": str(a + b)}],
            "answer": str(a + b),
        }
        for a, b in draw.sample([(a, b) for a in range(2, 50) for b in range(2, 20)], 700)
    )
    file = tmp_path / "sums.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    judged = {"rewards": [{"type": "answer"}], "answer_tokens": 5}
    sums = {"type": "files", "paths": [str(file)]}
    every = {"holdout": "20%", "optimizer": {"type": "adamw", "lr": 5e-4}}
    lora = {"type": "lora", "r": 16}
    stages = {
        "pupil": {
            "train": {
                **every,
                "model": {"type": "pretrained", "path": str(model), "adapter": lora},
                "data": {**sums, "records": "completion"},
                "objective": {"type": "sft", "pad_token": "<|endoftext|>"},
                "batch": {"tokens": 1024, "sequence": 256},
                "budget": "16 steps",
            }
        },
        "solver": {
            "train": {
                **every,
                "model": {"type": "stage", "stage": "pupil", "adapter": lora},
                "data": {**sums, "records": "prompt"},
                "objective": {"type": "grpo", "answers": 8, **judged},
                "batch": {"examples": 12},
                "budget": "25 steps",
            }
        },
        "gain": {
            "evaluate": {
                "models": ["pupil", "solver"],
                "baseline": "pupil",
                "data": "solver",
                "evaluators": [{"type": "answer-reward", "temperature": 0, **judged}],
            }
        },
    }
    run = run_spec(_spec(tmp_path, stages), tmp_path / "runs")
    scores = _scores(run)
    before, after = (scores[name, "reward"] for name in ("pupil", "solver"))
    gain = scores["solver", "gain_over_pupil"]
    half = 1.96 * gain["stderr"]
    print(
        f"\n{before['value']:.3f} -> {after['value']:.3f}, gain {gain['value']:+.3f} ± {half:.3f}"
    )
    assert gain["value"] > half
