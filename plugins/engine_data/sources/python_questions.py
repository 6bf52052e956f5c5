"""Source ``python-questions``: questions about the standard library, answered from its code.

Records are sorted by a hash of their ids, so that any first part is a fair sample. The questions of a
module are held out together.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import random
import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine import (
    Chat,
    Completion,
    Context,
    DataSource,
    Preference,
    Prompt,
    Record,
)
from engine_data.config import PythonQuestions
from engine_data.sources.standard_library import (
    LICENSE,
    Function,
    definitions,
    module_name,
    modules,
    parsed,
    root,
)

_SHORTEST = 12
"""Fewest characters of an answer."""


@dataclass(frozen=True, slots=True)
class _Question:
    id: str
    prompt: str
    answer: str


class PythonQuestionsSource(DataSource):
    """One record for each question about a public class, function or method."""

    def __init__(self, config: PythonQuestions) -> None:
        self._config = config

    def records(self, part: str) -> Iterator[Record]:
        """See :class:`engine.DataSource`."""
        same = self._config.model_copy(update={"records": "completion"})
        for path, question, rejected in _asked(same, root()):
            yield self._record(question, rejected, path)

    def _record(self, question: _Question, rejected: str, path: str) -> Record:
        common: dict[str, Any] = {
            "id": question.id,
            "source": "python-questions",
            "license": LICENSE,
            "meta": {"group": path},
        }
        prompt, answer = question.prompt, question.answer
        match self._config.records:
            case "completion":
                return Completion(prompt=prompt, completion=answer, **common)
            case "preference":
                return Preference(prompt=prompt, chosen=answer, rejected=rejected, **common)
            case "prompt":
                return Prompt(prompt=prompt, **common)
            case _:
                pair = {"user": prompt.strip(), "assistant": answer}
                messages = [{"role": role, "content": content} for role, content in pair.items()]
                return Chat(messages=messages, **common)


def build(config: PythonQuestions, context: Context) -> PythonQuestionsSource:
    """Builds the source."""
    return PythonQuestionsSource(config)


@lru_cache(maxsize=2)
def _asked(config: PythonQuestions, root: Path) -> Sequence[tuple[str, _Question, str]]:
    """Modules, questions and wrong answers. Cached, as building them takes seconds, and a run's stages
    read the same ones."""
    found = [
        (_hash(question.id), path, question, _rejected(question, asked))
        for path, text in modules(root, tests=False)
        if (asked := list(_questions(config, path, text)))
        for question in asked
    ]
    found.sort(key=lambda one: one[0])
    return [(path, question, rejected) for _, path, question, rejected in found]


def _questions(config: PythonQuestions, path: str, text: str) -> Iterator[_Question]:
    """The distinct questions about a module."""
    tree = parsed(text)
    asked: set[str] = set()
    for name, node in definitions(tree, module_name(path)) if tree else ():
        if isinstance(node, ast.Module) or name in asked or "._" in f".{name}":
            continue
        asked.add(name)
        doc = inspect.cleandoc(ast.get_docstring(node, clean=False) or "").strip()
        for kind in config.questions:
            question = None
            if kind == "purpose":
                question = _purpose(config, name, node, doc)
            elif isinstance(node, Function) and doc:
                question = _completion(name, node, text)
            if question is not None and _fits(question, config.max_characters):
                yield question


def _purpose(config: PythonQuestions, name: str, node: Any, doc: str) -> _Question:
    called = f"({ast.unparse(node.args)})" if isinstance(node, Function) else ""
    if config.answers == "paragraph":
        doc = " ".join(doc.partition("\n\n")[0].split())
    return _Question(f"purpose/{name}", f"What does `{name}{called}` do?\n", doc)


def _fits(question: _Question, most: int) -> bool:
    return len(question.prompt) <= most and _SHORTEST <= len(question.answer) <= most


def _completion(name: str, node: Any, text: str) -> _Question | None:
    """Asks for the body of a function after its docstring; None if it has only a docstring."""
    if len(node.body) < 2:
        return None
    lines = text.splitlines()[node.lineno - 1 : node.end_lineno]
    head = node.body[0].end_lineno - node.lineno + 1
    whole = textwrap.dedent("\n".join(lines)).splitlines()
    prompt = "\n".join(["Complete this function:", "", *whole[:head]]) + "\n"
    return _Question(f"body/{name}", prompt, "\n".join(whole[head:]))


def _rejected(question: _Question, asked: Sequence[_Question]) -> str:
    """A wrong answer: that to another question about the module, or the right one damaged."""
    kind = question.id.partition("/")[0]
    others = sorted(
        {q.answer for q in asked if q.id.startswith(kind) and q.answer != question.answer}
    )
    chance = random.Random(_hash(question.id))
    if others and chance.random() < 0.5:
        return chance.choice(others)
    words = question.answer.split(" ")
    way = chance.choice(("cut", "shuffled", "repeated"))
    half = max(1, len(words) // 2)
    if way == "shuffled":
        mixed = sorted(words, key=lambda word: chance.random())
        if mixed != words:
            return " ".join(mixed)
    if way == "repeated":
        return " ".join([*words[:half], *words[:half], *words[half:]])
    return question.answer[: max(1, len(question.answer) // 2)]


def _hash(name: str) -> bytes:
    return hashlib.blake2b(name.encode(), digest_size=8).digest()
