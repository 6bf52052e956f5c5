"""Leaks of benchmarks planted in texts that have nothing to do with them, in several shapes.

It knows nothing of how leaks are found: it reads the rows' own fields and writes documents.
"""

from __future__ import annotations

import gzip
import json
import pydoc_data.topics
import random
import re
import sysconfig
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Rows = Callable[..., list[dict[str, Any]]]
SHAPES = ("verbatim", "re-wrapped", "one-line", "inside", "other-prefix", "json")

_ROFF = re.compile(r"^[.'].*$|\\f[A-Z]|\\[-&|]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Leak:
    """A row of a benchmark: its number, and what it asks and answers."""

    benchmark: str
    number: int
    question: str
    answer: str

    @property
    def words(self) -> int:
        """Words of the question and its answer, as white space divides them."""
        return len(f"{self.question} {self.answer}".split())


@dataclass(frozen=True, slots=True)
class Planted:
    """A document, and the leak in it; ``shape``: how it was written there."""

    text: str
    leak: Leak
    shape: str


def leaks(benchmark: str, file: str, rows: Rows, limit: int | None = None) -> list[Leak]:
    """Rows of a file as leaks, in the file's order."""
    fields = _FIELDS[benchmark]
    return [Leak(benchmark, n, *fields(row)) for n, row in enumerate(rows(file, limit))]


def _choice(row: Mapping[str, Any]) -> str:
    choices = row["choices"]
    return str(choices["text"][choices["label"].index(row["answerKey"])])


_FIELDS: Mapping[str, Callable[[Mapping[str, Any]], tuple[str, str]]] = {
    "gsm8k": lambda row: (row["question"], row["answer"]),
    "commonsense-qa": lambda row: (row["question"], _choice(row)),
    "hellaswag": lambda row: (row["ctx"], row["endings"][int(row["label"])]),
    "mmlu": lambda row: (row["question"], row["choices"][row["answer"]]),
    "math": lambda row: (row["problem"], row["solution"]),
    "mbpp": lambda row: (row["prompt"], row["code"]),
    "humaneval": lambda row: (row["prompt"], row["canonical_solution"]),
}
FILES: Sequence[tuple[str, str]] = (
    ("gsm8k", "gsm8k_test_sample"),
    ("commonsense-qa", "commonsenseqa_dev_sample"),
    ("hellaswag", "hellaswag_val_sample"),
    ("mmlu", "mmlu_astronomy_test"),
    ("mmlu", "mmlu_world_religions_test"),
    ("mmlu", "mmlu_high_school_computer_science_test"),
    ("math", "math500_sample"),
    ("mbpp", "mbpp_sanitized_sample"),
    ("humaneval", "humaneval_sample"),
)
"""Benchmarks and the files of their rows."""


def plant(leak: Leak, shape: str, around: str) -> Planted:
    """A document with the leak in it; ``around``: a text without it, for the shape ``inside``."""
    question, answer = leak.question.strip(), leak.answer.strip()
    both = f"{question}\n{answer}"
    if shape == "re-wrapped":
        text = textwrap.fill(" ".join(both.split()), 37, break_on_hyphens=False)
    elif shape == "one-line":
        text = "  ".join(both.split()).replace("'", "\u2019").upper()
    elif shape == "inside":
        middle = around.find("\n", len(around) // 2) + 1
        text = f"{around[:middle]}\n{both}\n\n{around[middle:]}"
    elif shape == "other-prefix":
        text = f"### Exercise 12 (two points)\n\n{question}\n\n### The solution\n\n{answer}\n"
    elif shape == "json":
        text = json.dumps(
            {"id": leak.number, "input": question, "target": answer}, ensure_ascii=False
        )
    else:
        text = both
    return Planted(text, leak, shape)


def innocent(rows: Rows, seed: int = 0) -> list[str]:
    """Texts without a leak: manuals, licences, forms, reference, sources, and rows of other kinds that
    are written like benchmarks."""
    found = [*_manuals(seed), *_licences(), *_forms(), *pydoc_data.topics.topics.values()]
    found += _sources()
    found += [f"{r['question']}\n{r['answer']}" for r in rows("gsm8k_train_sample")]
    found += [r["chosen"] for r in rows("hh_harmless_sample")]
    found += [f"{r['instruction']}\n{r['instances']}" for r in rows("self_instruct_seeds")]
    return found


def long_texts(seed: int = 0) -> list[str]:
    """Texts of at least 5,000 characters, as a leak may stand inside."""
    found = [*_manuals(seed), *_licences(), *_sources()]
    return [text for text in found if len(text) >= 5000]


def _manuals(seed: int, count: int = 150) -> list[str]:
    """Some manual pages, where the machine has them."""
    folder = Path("/usr/share/man/man1")
    files = sorted(folder.glob("*.1.gz")) if folder.is_dir() else []
    some = random.Random(seed).sample(files, min(count, len(files)))
    return [_ROFF.sub("", _unpacked(file)) for file in some if file.is_file()]


def _unpacked(file: Path) -> str:
    return gzip.decompress(file.read_bytes()).decode(errors="replace")


def _licences() -> list[str]:
    """Licences, each also as it stands before somebody's file."""
    folder = Path("/usr/share/common-licenses")
    files = sorted(f for f in folder.glob("*") if f.is_file()) if folder.is_dir() else []
    texts = [file.read_text(errors="replace") for file in files]
    return [
        *texts,
        *(f"{text}\n\n/* file {n} */\nint main(void);\n" for n, text in enumerate(texts)),
    ]


def _forms() -> Iterator[str]:
    """Forms to fill in: the same questions on each, other answers."""
    fields = (
        "Which of the following best describes your current employment status?",
        "What is the total amount that you paid for the goods and services in this period?",
        "How many people live in your household, counting yourself and any children?",
        "Please state the name and address of the person who made the application.",
    )
    for number in range(40):
        drawn = random.Random(number)
        lines = [f"Form {number}-{drawn.randrange(1000)}"]
        lines += [f"{field}\n  [ ] {drawn.randrange(1, 9)}  ______" for field in fields]
        yield "\n".join([*lines, "I declare that the information above is true. Signed: ____"])


def _sources() -> list[str]:
    folder = Path(sysconfig.get_paths()["stdlib"])
    names = ("argparse", "ast", "datetime", "doctest", "fractions", "heapq", "inspect", "random")
    names = (*names, "statistics", "string", "textwrap", "turtle", "typing", "zipfile")
    files = [folder / f"{name}.py" for name in names]
    return [file.read_text(encoding="utf-8") for file in files if file.is_file()]
