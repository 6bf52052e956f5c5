"""Question, answer and passage of a task's documents, without few-shot examples and without the words
that the task's template puts around them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import Any

from engine import ItemTexts
from engine_evals.lm_eval_tasks.isolation import naming_errors

_QUESTIONS = ("question", "Question")
_PASSAGES = ("passage", "context", "article", "story", "paragraph", "background", "support")
"""Names of fields in documents of lm-eval's tasks."""
_PASSAGE = 40
"""Fewest words of a passage; a shorter one, such as a situation of Social IQa, is part of its
question."""


def texts_of(name: str, task: Any) -> list[ItemTexts]:
    """The texts of all documents of a task, with the ids of their items. Raises RunError."""
    with naming_errors(f"lm-eval task '{name}': reading its questions and answers"):
        documents = list(task.eval_docs)
        prompts = [_prompt(task, document) for document in documents]
        passages = [_passage(*one) for one in zip(documents, prompts, strict=True)]
        questions = _without_frame(
            [
                p.replace(cut, "\n", 1) if cut else p
                for p, cut in zip(prompts, passages, strict=True)
            ]
        )
        found = []
        rows = zip(documents, questions, passages, strict=True)
        for number, (document, rest, passage) in enumerate(rows):
            question, answer = _question(document, rest, passage), _answer(task, document)
            if not question:  # the passage is all that the prompt has
                question, passage = passage, ""
            texts = (text or None for text in (question, answer, passage))
            found.append(ItemTexts(f"{name}/{number}", *texts))
        return found


def _prompt(task: Any, document: Mapping[str, Any]) -> str:
    """The prompt; of several, as Winogrande has them, that of the right choice."""
    prompt = task.doc_to_text(document)
    if isinstance(prompt, int):
        prompt = task.doc_to_choice(document)[prompt]
    return prompt if isinstance(prompt, str) else "\n".join(map(str, prompt))


def _passage(document: Mapping[str, Any], prompt: str) -> str:
    """The field that is a passage of the prompt; else an empty text."""
    fields = (document.get(name) for name in _PASSAGES)
    found = (f for f in fields if isinstance(f, str) and len(f.split()) >= _PASSAGE and f in prompt)
    return next(found, "")


def _question(document: Mapping[str, Any], prompt: str, passage: str) -> str:
    """The document's own field if the prompt, without the passage, begins with it, as before options,
    or if there is a passage; else the prompt."""
    fields = (document.get(name) for name in _QUESTIONS)
    found = (f.strip() for f in fields if isinstance(f, str) and f.strip())
    return next((f for f in found if prompt.startswith(f) or (passage and f in prompt)), prompt)


def _without_frame(texts: Sequence[str]) -> list[str]:
    """Texts without the labels with which all of them begin and end: up to a colon or line break, such
    as ``Question:``, and from a line break on, such as before ``Answer:``."""
    if len(texts) < 2:
        return list(texts)
    label = re.match(r".*[:\n]", _common(texts), re.DOTALL)
    start = label.end() if label else 0
    ending = _common([text[::-1] for text in texts])[::-1]
    end = len(ending) - ending.index("\n") if "\n" in ending else 0
    return [text[start : len(text) - end].strip() for text in texts]


def _common(texts: Sequence[str]) -> str:
    """The beginning that all texts share."""
    first, last = min(texts), max(texts)
    same = (a == b for a, b in zip(first, last, strict=False))
    return first[: sum(takewhile(bool, same))]


def _answer(task: Any, document: Mapping[str, Any]) -> str:
    """The right answer, the first of several; of options with letters the option's text."""
    target = task.doc_to_target(document)
    if isinstance(target, list):
        target = target[0] if target else ""
    choices = task.doc_to_choice(document) if _chooses(task) else []
    if target in choices:
        target = choices.index(target)
    if not choices or not isinstance(target, int):
        return str(target).strip()
    options = document.get("choices")
    options = options.get("text") if isinstance(options, dict) else options
    if isinstance(options, list) and len(options) == len(choices):
        choices = options
    return str(choices[target]).strip() if 0 <= target < len(choices) else ""


def _chooses(task: Any) -> bool:
    """Whether the task's answers are choices for one prompt."""
    return task.OUTPUT_TYPE == "multiple_choice" and not getattr(task, "multiple_input", False)
