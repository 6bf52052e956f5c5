"""Processor ``gopher``: rules for quality and repetition.

Source: Rae et al. 2021, "Scaling Language Models: Methods, Analysis & Insights from Training Gopher",
section A.1.1 and table A1. What the paper leaves open, such as what a line is, which characters are
symbols and the order of the rules, is as in datatrove 0.10.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine import Context
from engine_corpus.judge.rules.characters import SYMBOLS
from engine_corpus.judge.rules.config import Gopher
from engine_corpus.judge.rules.n_grams import WordSequence
from engine_corpus.judge.rules.repetition import ratio, repeated
from engine_corpus.judge.rules.rule_set import Judgement, Limit, Measure, RuleSet
from engine_corpus.judge.rules.words import Split

_TOP, _DUPLICATE = (2, 3, 4), (5, 6, 7, 8, 9, 10)
_ELLIPSES = ("...", "…")
_BULLETS = ("•", "-")
_REPETITIONS = (
    "duplicate_paragraphs",
    "duplicate_paragraph_characters",
    "duplicate_lines",
    "duplicate_line_characters",
    *(f"top_{n}_gram" for n in _TOP),
    *(f"duplicate_{n}_grams" for n in _DUPLICATE),
)
_QUALITY_LIMITS = (
    Limit("min_words", "words", "gopher-few-words"),
    Limit("max_words", "words", "gopher-many-words"),
    Limit("min_mean_word_length", "mean_word_length", "gopher-short-words"),
    Limit("max_mean_word_length", "mean_word_length", "gopher-long-words"),
    Limit("max_hashes", "hashes", "gopher-hashes"),
    Limit("max_ellipses", "ellipses", "gopher-ellipses"),
    Limit("max_bullet_lines", "bullet_lines", "gopher-bullet-lines"),
    Limit("max_ellipsis_lines", "ellipsis_lines", "gopher-ellipsis-lines"),
    Limit("min_alphabetic_words", "alphabetic_words", "gopher-few-alphabetic-words"),
    Limit("min_stop_words", "stop_words", "gopher-few-stop-words"),
)
_REPETITION_LIMITS = tuple(
    Limit(f"max_{name}", name, f"gopher-{name}".replace("_", "-")) for name in _REPETITIONS
)


class GopherRules(RuleSet):
    """Measures as columns ``gopher_…``; an empty text always breaks a rule."""

    limits = (*_QUALITY_LIMITS, *_REPETITION_LIMITS)
    counts = ("words", "stop_words")
    means = ("mean_word_length",)
    shares = (
        "hashes",
        "ellipses",
        "bullet_lines",
        "ellipsis_lines",
        "alphabetic_words",
        *_REPETITIONS,
    )

    def __init__(self, config: Gopher, split: Split | None = None) -> None:
        super().__init__(config, "gopher", split)
        self._limits = config
        self._stop_words = frozenset(config.stop_words)

    def judge(self, text: str) -> Judgement:
        """See :class:`RuleSet`."""
        measures = self.measured(text)
        return Judgement(self.rule(text, measures), measures)

    def measured(self, text: str) -> Mapping[str, Measure]:
        """The measures of a text, which depend on no limit."""
        words = WordSequence(self.split(text))
        return self._quality(text, words) | _repetition(text, words)

    def rule(self, text: str, measures: Mapping[str, Measure]) -> str | None:
        """The first rule that a text with these measures breaks."""
        for limit in _QUALITY_LIMITS:
            if limit.broken(self._limits, measures):
                return limit.rule
        if not text:
            return "gopher-empty"
        broken = (
            limit.rule for limit in _REPETITION_LIMITS if limit.broken(self._limits, measures)
        )
        return next(broken, None)

    def _quality(self, text: str, words: WordSequence) -> dict[str, Measure]:
        total = len(words.words)
        count = length = alphabetic = 0
        for word, times in words.counts.items():
            letters = word.isalpha()
            if letters or not SYMBOLS.issuperset(word):  # no symbol is a letter
                count += times
                length += times * len(word)
            if letters or any(map(str.isalpha, word)):
                alphabetic += times
        lines = text.splitlines()
        bullets = sum(line.lstrip().startswith(_BULLETS) for line in lines)
        ellipses = sum(map(text.count, _ELLIPSES))
        ends = sum(line.rstrip().endswith(_ELLIPSES) for line in lines) if ellipses else 0
        return {
            "words": count,
            "mean_word_length": ratio(length, count),
            "hashes": ratio(text.count("#"), total),
            "ellipses": ratio(ellipses, total),
            "bullet_lines": ratio(bullets, len(lines)),
            "ellipsis_lines": ratio(ends, len(lines)),
            "alphabetic_words": ratio(alphabetic, total),
            "stop_words": len(self._stop_words & words.counts.keys()),
        }


def _repetition(text: str, words: WordSequence) -> dict[str, Measure]:
    paragraphs = [part.lstrip("\n") for part in text.strip().split("\n\n") if part.strip("\n")]
    lines = [line for line in text.split("\n") if line]
    lines += [""] * (text.startswith("\n") + text.endswith("\n"))
    paragraph_count, paragraph_characters = repeated(paragraphs)
    line_count, line_characters = repeated(lines)
    characters = [
        paragraph_characters,
        line_characters,
        *words.top_n_grams(max(_TOP)),
        *map(words.duplicate_n_grams, _DUPLICATE),
    ]
    shares = [ratio(number, len(text)) for number in characters]
    values = [
        ratio(paragraph_count, len(paragraphs)),
        shares[0],
        ratio(line_count, len(lines)),
        *shares[1:],
    ]
    return dict(zip(_REPETITIONS, values, strict=True))


def build(config: Gopher, context: Context) -> GopherRules:
    """Builds the processor."""
    return GopherRules(config)
