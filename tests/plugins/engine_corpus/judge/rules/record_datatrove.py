"""Records what datatrove 0.10 decides about documents, for ``test_rules_equal_datatrove.py``.

``python record_datatrove.py [--collect]``, in an environment with ``datatrove[processing]==0.10.*``,
writes ``datatrove_decisions.json.xz``. The real documents are those of the file that is there; with
``--collect`` they are taken anew from the running Python's standard library (PSF licence). Words are
recorded as lengths: one after the other they are the text without its white space.
"""

from __future__ import annotations

import ast
import json
import lzma
import pydoc_data.topics
import random
import sys
import sysconfig
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from datatrove.data import Document
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    c4_filters,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)
from datatrove.utils.word_tokenizers import load_word_tokenizer

FILE = Path(__file__).with_name("datatrove_decisions.json.xz")
QUALITY = {
    "min_doc_words": 50,
    "max_doc_words": 300,
    "min_avg_word_length": 4,
    "max_avg_word_length": 6,
    "max_symbol_word_ratio": 0.02,
    "max_bullet_lines_ratio": 0.1,
    "max_ellipsis_lines_ratio": 0.1,
    "max_non_alpha_words_ratio": 0.75,
    "min_stop_words": 5,
}
REPETITION = {
    "dup_line_frac": 0.1,
    "dup_para_frac": 0.1,
    "dup_line_char_frac": 0.05,
    "dup_para_char_frac": 0.05,
    "top_n_grams": [(2, 0.06), (3, 0.06), (4, 0.06)],
    "dup_n_grams": [(5, 0.05), (6, 0.05), (7, 0.05), (8, 0.05), (9, 0.05), (10, 0.05)],
}
FINEWEB = {
    "line_punct_thr": 0.12,
    "short_line_thr": 0.67,
    "char_duplicates_ratio": 0.01,
    "new_line_ratio": 0.3,
}
FINEWEB_OFF = {
    "line_punct_thr": 0,
    "short_line_thr": 1,
    "char_duplicates_ratio": 1,
    "new_line_ratio": 1e9,
}
C4_FLAGS = (
    "remove_citations",
    "filter_no_terminal_punct",
    "filter_lorem_ipsum",
    "filter_javascript",
    "filter_curly_bracket",
    "filter_policy",
)


def main(collect: bool) -> None:
    """Records everything."""
    warnings.simplefilter("ignore")  # means of nothing
    if collect:
        real = list(_collected())
    else:
        with lzma.open(FILE, "rt", encoding="utf-8") as file:
            real = [row["text"] for row in json.load(file)["documents"] if row["real"]]
    tokenizer = load_word_tokenizer("en")
    lines: dict[str, list[int]] = {}
    sentences = c4_filters.split_into_sentences

    def split_into_sentences(text: str, language: str) -> list[str]:
        lines[text] = _lengths(text, tokenizer.word_tokenize(text))
        return sentences(text, language)

    c4_filters.split_into_sentences = split_into_sentences
    documents = []
    for text in [*real, *_synthetic()]:
        words = tokenizer.word_tokenize(text)
        _use(lambda _, words=words: words)
        row = {"text": text, "real": text in real, "words": _lengths(text, words)}
        row |= {"spacy": _decisions(text) | _c4(text)}
        _use(str.split)
        documents.append(row | {"whitespace": _decisions(text)})
    body = json.dumps({"documents": documents, "lines": lines}, separators=(",", ":"))
    FILE.write_bytes(lzma.compress(body.encode(), preset=9))
    print(f"{len(documents)} documents, {sum(map(len, real))} characters of real ones")


def _lengths(text: str, words: list[str]) -> list[int]:
    assert "".join(words) == "".join(text.split()), text
    return list(map(len, words))


def _use(split: Callable[[str], list[str]]) -> None:
    """Makes datatrove split into words so."""
    for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
        module.split_into_words = lambda text, language: split(text)


def _decisions(text: str) -> dict[str, str | None]:
    """By filter and configuration; each threshold is also tested alone."""
    found = {
        "quality": _reason(GopherQualityFilter(), text),
        "repetition": _reason(GopherRepetitionFilter(), text),
        "fineweb": _reason(FineWebQualityFilter(), text),
        "fineweb line_punct_exclude_zero": _reason(
            FineWebQualityFilter(line_punct_exclude_zero=True), text
        ),
        "fineweb short_line_length": _reason(FineWebQualityFilter(short_line_length=60), text),
    }
    off = dict.fromkeys(QUALITY)
    for name, limit in QUALITY.items():
        found[f"quality {name}"] = _reason(GopherQualityFilter(**{**off, name: limit}), text)
    off = {name: [] if name.endswith("grams") else None for name in REPETITION}
    for name, limit in REPETITION.items():
        for one in limit if isinstance(limit, list) else [None]:
            only = {**off, name: limit if one is None else [one]}
            key = f"repetition {name}" + ("" if one is None else f" {one[0]}")
            found[key] = _reason(GopherRepetitionFilter(**only), text)
    for name, limit in FINEWEB.items():
        only = FineWebQualityFilter(**{**FINEWEB_OFF, name: limit})
        found[f"fineweb {name}"] = _reason(only, text)
    return found


def _c4(text: str) -> dict[str, list[str | None]]:
    """Reason and text that is left, by configuration."""
    configurations: dict[str, dict[str, Any]] = {
        "": {},
        "split_paragraph": {"split_paragraph": False},
        "all": {"min_num_sentences": -1},
        "max_word_length": {"max_word_length": 12, "min_num_sentences": -1},
        "min_words_per_line": {"min_words_per_line": 8, "min_num_sentences": -1},
        **{flag: {flag: False, "min_num_sentences": -1} for flag in C4_FLAGS},
        "flags": {**dict.fromkeys(C4_FLAGS, False), "min_num_sentences": 12},
    }
    found = {}
    for name, configuration in configurations.items():
        document = Document(text=text, id="")
        outcome = C4QualityFilter(**configuration).filter(document)
        dropped = isinstance(outcome, tuple)
        found[f"c4 {name}".strip()] = [
            outcome[1] if dropped else None,
            None if dropped or document.text == text else document.text,
        ]
    return found


def _reason(filter_: Any, text: str) -> str | None:
    """The reason why a filter drops a text; ``error`` where it fails."""
    try:
        outcome = filter_.filter(Document(text=text, id=""))
    except ZeroDivisionError:  # datatrove divides by the number of words
        return "error"
    return outcome[1] if isinstance(outcome, tuple) else None


def _collected() -> Iterator[str]:
    """Pieces of the standard library's topics, docstrings and sources."""
    for _, text in sorted(pydoc_data.topics.topics.items()):
        yield text[:1200]
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))
    for file in files:
        source = file.read_text(encoding="utf-8")
        nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
        found = (ast.get_docstring(n) for n in ast.walk(ast.parse(source)) if isinstance(n, nodes))
        text = "\n\n".join(filter(None, found))[:600]
        if len(text) > 200:
            yield text
    for file in files[::3]:
        yield file.read_text(encoding="utf-8")[1000:1700]


def _synthetic() -> Iterator[str]:
    """Texts at the edges of the rules, and random ones with much repetition."""
    sentence = "The people of that town have to be there and wait with the others. "
    yield from ("", " ", "\n\n \t\n", "\0", "\0\0 \x07", "…", "...", "a", "#", "- a\n- b", "\ufeff")
    yield from ("a" * 3000, "a " * 3000, "ab " * 300, "." * 2000, "\n" * 500, "a\n" * 500)
    yield from ("שלום עולם. " * 40, "مرحبا بالعالم، كيف الحال؟\n" * 30, "😀 👍🏽 ❤️ " * 60)
    yield from ("你好。世界" * 80, "हिन्दी में एक वाक्य है। " * 30, "e\u0301te\u0301 " * 80)
    yield "\uff11 \uff11a " * 30  # of words that count only half
    yield from ("one\u2028two\x0bthree\x1cfour. " * 20, "a\r\nb.\r\n" * 60)
    for count in (49, 50, 51):
        yield " ".join(f"word{number}" for number in range(count - 4)) + " the of to be"
    for text in ("#", "...", "…"):
        for every in (9, 10, 11):
            yield "".join(f"w{n} the and{n} " + (text + " ") * (n % every == 0) for n in range(90))
    for mark in ("-", "•", "", "  - "):
        for count in (17, 18, 19, 20):
            lines = [f"the thing {n} and {n * n} of it" for n in range(20)]
            yield "\n".join(mark * (n < count) + line for n, line in enumerate(lines))
    for count in (5, 6, 7, 20):
        lines = [f"the thing {n} and {n * n} of it" for n in range(20)]
        yield "\n".join(
            line + ("..." if n < count else " …  ."[n % 3 :]) for n, line in enumerate(lines)
        )
    yield from (sentence * 30, (sentence + "\n") * 30, (sentence + "\n\n") * 3)
    for extra in (
        "Lorem ipsum dolor sit amet.",
        "Please enable JavaScript to go on.",
        "This site uses cookies for that.",
        "A set {1, 2} of numbers.",
        "As they say.[12] It is so.[citation needed]",
        "They wait there... ",
        "Short line.",
        "It has a word of length " + "x" * 1001 + ".",
        '"Who is there?" he asked. "I am!" she said, and (so it went.) He left.',
        "Mr. Smith paid 3.5 dollars, i.e. too much?! Then he left .. . And ! came.",
        "Read the privacy policy first, and the terms of use.",
        "Wörter: Größe, Straße? 好。 Ja!",
        "And a line without any mark",
        "Ends with a space. [1]",
    ):
        for count in (1, 4, 5, 9):
            yield "\n".join([*(f"{sentence}{n}." for n in range(count)), extra])
    random_numbers = random.Random(20)

    def some(things: list[str]) -> str:
        return things[int(random_numbers.random() * len(things))]

    vocabulary = [*"the be to of and that have with # ... … - • a an can not cannot ab c".split()]
    vocabulary += [f"{some(list('bcdfgst'))}{some(['a', 'ee', 'ou'])}{n}" for n in range(60)]
    for number in range(160):
        size = 3 + number % 70
        own = vocabulary[:size]
        paragraph, paragraphs = [], []
        for _ in range(4 + number % 17):
            repeats = paragraph and random_numbers.random() < (number % 9) / 16
            words = (some(own) for _ in range(2 + int(random_numbers.random() * 12)))
            line = some(paragraph) if repeats else " ".join(words) + some(["", ".", "..", "!", "?"])
            paragraph.append(line)
            if random_numbers.random() < 0.3:
                paragraphs.append("\n".join(paragraph))
                paragraph = paragraph[: number % 3]
        yield "\n\n".join([*paragraphs, "\n".join(paragraph)])


if __name__ == "__main__":
    main("--collect" in sys.argv[1:])
