"""A few rows of some benchmarks, as the hub and the wheel have them."""

from __future__ import annotations

HELLASWAG = [
    {
        "ind": number,
        "activity_label": "Jumping",
        "ctx_a": "A boy runs.",
        "ctx_b": "he",
        "ctx": "A boy runs. he",
        "endings": ["jumps über it.", "sits.", "sings.", "eats."],
        "source_id": f"activitynet~{number}",
        "split": "val",
        "split_type": "indomain",
        "label": "0",
    }
    for number in range(3)
]
ANATOMY = [
    {"question": "Where?", "subject": "anatomy", "choices": ["a", "b", "c", "d"], "answer": 2}
]
ALGEBRA = [
    {
        "index": number,
        "problem": f"What is ${number}+1$?",
        "query": "Problem:\n…",
        "level": "Level 1",
        "type": "Algebra",
        "solution": f"It is $\\boxed{{{number + 1}}}$.",
        "answer": "\\le",
        "choices": ["…"],
    }
    for number in range(2)
]
ARC = {
    "id": "Mercury_1",
    "query": "Question: Which\nis warm?\nAnswer:",
    "choices": ["ice", "fire", "snow"],
    "gold": 1,
}
