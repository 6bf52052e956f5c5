"""Processor ``fineweb``: the rules that FineWeb adds to those of Gopher and C4.

Source: Penedo et al. 2024, "The FineWeb Datasets: Decanting the Web for the Finest Text Data at Scale",
section 3.6; the marks that end lines, and the order of the rules, are as in datatrove 0.10.
"""

from __future__ import annotations

from engine import Context
from engine_corpus.judge.rules.characters import TERMINAL_PUNCTUATION
from engine_corpus.judge.rules.config import FineWeb
from engine_corpus.judge.rules.repetition import ratio, repeated
from engine_corpus.judge.rules.rule_set import Judgement, Limit, RuleSet
from engine_corpus.judge.rules.words import Split

_MARKS = tuple(sorted(TERMINAL_PUNCTUATION))


class FineWebRules(RuleSet):
    """Measures as columns ``fineweb_…``; a blank text always breaks a rule."""

    limits = (
        Limit("min_punctuated_lines", "punctuated_lines", "fineweb-few-punctuated-lines"),
        Limit("max_short_lines", "short_lines", "fineweb-short-lines"),
        Limit(
            "max_duplicate_line_characters",
            "duplicate_line_characters",
            "fineweb-duplicate-line-characters",
        ),
        Limit("max_newlines", "newlines", "fineweb-newlines"),
    )
    shares = tuple(limit.measure for limit in limits)

    def __init__(self, config: FineWeb, split: Split | None = None) -> None:
        super().__init__(config, "fineweb", split)
        self._limits = config

    def judge(self, text: str) -> Judgement:
        """See :class:`RuleSet`."""
        lines = [line for line in text.split("\n") if line.strip()]
        if not lines:
            return Judgement("fineweb-empty", {})
        newlines = text.count("\n")
        punctuated = sum(line.endswith(_MARKS) for line in lines)
        short = sum(len(line) <= self._limits.short_line for line in lines)
        measures = {
            "punctuated_lines": ratio(punctuated, len(lines)),
            "short_lines": ratio(short, len(lines)),
            "duplicate_line_characters": ratio(repeated(lines)[1], len(text) - newlines),
            "newlines": ratio(newlines, len(self.split(text))),
        }
        spared = self._limits.keep_unpunctuated and not punctuated
        broken = (
            limit.rule for limit in self.limits[spared:] if limit.broken(self._limits, measures)
        )
        return Judgement(next(broken, None), measures)


def build(config: FineWeb, context: Context) -> FineWebRules:
    """Builds the processor."""
    return FineWebRules(config)
