"""A train stage that learns from records, among them copies and an item of a benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

_TOPICS = "tides bread clocks rivers glass salt bridges wool maps lamps".split()
_QUESTION = (
    "Where would somebody who has lost a key look for it first of all, before asking others?"
)
ITEM = {
    "question": _QUESTION,
    "choices": {"label": list("ABCDE"), "text": ["under the mat", "in the sea", "x", "y", "z"]},
    "answerKey": "A",
}
STEPS = [{"type": "exact-dedup"}, {"type": "near-dedup"}, {"type": "decontaminate"}]


def words_of(number, count=60):
    """Words of a text that shares no five in a row with those of other numbers."""
    return [f"{_TOPICS[(number + i * i) % 10]}{number * count + i}" for i in range(count)]


def texts():
    """A question and an answer of 14 records: 10 that stay, then planted ones."""
    own = [(" ".join(words_of(n)[:20]), " ".join(words_of(n)[20:])) for n in range(10)]
    edited = words_of(3)
    edited[45] = "x"  # shorter than the one that stays
    near = (" ".join(edited[:20]), " ".join(edited[20:]))
    return [*own, own[1], own[2], near, (f"Tell me. {_QUESTION.upper()}", "under the mat")]


def chat(question, answer):
    turns = zip(("user", "assistant"), (question, answer), strict=True)
    return {"messages": [{"role": role, "content": content} for role, content in turns]}


SHAPES = {
    "chat": (chat, {"type": "sft", "template": "chatml"}),
    "completion": (
        lambda q, a: {"prompt": q, "completion": a},
        {"type": "sft", "template": "chatml"},
    ),
    "preference": (
        lambda q, a: {"prompt": q, "chosen": a, "rejected": f"{a.split()[0]} no"},
        {"type": "dpo"},
    ),
    "labelled": (
        lambda q, a: {"prompt": q, "completion": a, "label": len(a) % 2 == 0},
        {"type": "kto"},
    ),
    "prompt": (
        lambda q, a: {"prompt": q, "answer": a},
        {"type": "grpo", "rewards": [{"type": "length"}], "answers": 2, "answer_tokens": 4},
    ),
    "text": (lambda q, a: {"text": f"{q}\n{a}"}, {"type": "next-token"}),
}


def with_records(tiny_spec: dict[str, Any], folder: Path) -> Callable[..., dict[str, Any]]:
    """The tiny spec, scored by a benchmark, with a stage `tuned` that learns from records."""
    items = folder / "items.jsonl"
    items.write_text(json.dumps(ITEM) + "\n", encoding="utf-8")
    base = tiny_spec["stages"]["base"]["train"]
    base["model"]["context"] = 512
    base |= {"budget": "1 steps", "batch": {"tokens": 1024}}
    base["evaluate"] = [{"type": "commonsense-qa", "rows": str(items), "limit": 1}]

    def build(schema="chat", rows=None, processors=STEPS, **train):
        shape, objective = SHAPES[schema]
        file = folder / "records.jsonl"
        rows = [shape(*text) for text in texts()] if rows is None else rows
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        tiny_spec["stages"]["tuned"] = {
            "train": {
                "data": {"type": "files", "paths": [str(file)], "records": schema},
                "processors": processors,
                "model": "base",
                "objective": objective,
                "optimizer": {"type": "adamw"},
                "batch": {"examples": 2, "sequence": 512},
                "budget": "1 steps",
                **train,
            }
        }
        return tiny_spec

    return build
