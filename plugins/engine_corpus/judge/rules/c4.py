"""Processor ``c4``: removes lines that are no prose, and drops documents of which little is left.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", section 2.2. What the paper leaves open, such as what a citation mark is, and the order of
the rules, are as in datatrove 0.10. Its word list is left to the processor ``word-list``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from engine import Context
from engine_corpus.judge.rules.config import C4
from engine_corpus.judge.rules.rule_set import Judgement, Limit, RuleSet
from engine_corpus.judge.rules.sentences import sentences
from engine_corpus.judge.rules.words import Split

_CITATION = re.compile(r"\[(?:\d*|edit|citation needed)\]")
_TERMINAL = (".", "?", "!", '"', "'")
_POLICIES = (
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)


class C4Rules(RuleSet):
    """Columns ``c4_removed``, the number of lines or sentences that are removed, and
    ``c4_sentences``, of sentences that stay; null where a single phrase drops the document."""

    limits = (Limit("min_sentences", "sentences", "c4-few-sentences"),)
    counts = ("removed", "sentences")
    rewrites = True

    def __init__(self, config: C4, split: Split | None = None) -> None:
        super().__init__(config, "c4", split)
        self._rules = config

    def judge(self, text: str) -> Judgement:
        """See :class:`RuleSet`."""
        in_lines = self._rules.split == "lines"
        kept: list[str] = []
        removed = 0
        for piece in self._pieces(text):
            stripped = piece.strip()
            line = _CITATION.sub("", stripped) if self._rules.remove_citations else stripped
            lower = line.lower()
            if self._malformed(line, stripped.split()):
                removed += 1
            elif self._rules.drop_lorem_ipsum and "lorem ipsum" in lower:
                return Judgement("c4-lorem-ipsum", {})
            elif self._rules.remove_javascript and "javascript" in lower:
                removed += 1
            elif self._rules.drop_curly_brackets and "{" in line:
                return Judgement("c4-curly-bracket", {})
            elif self._rules.remove_policies and any(phrase in lower for phrase in _POLICIES):
                removed += 1
            else:
                kept.append(line)
        count = sum(len(self._sentences(line)) for line in kept) if in_lines else len(kept)
        measures = {"removed": removed, "sentences": count}
        if self.limits[0].broken(self._rules, measures):
            return Judgement(self.limits[0].rule, measures)
        left = ("\n" if in_lines else " ").join(kept).strip()
        return Judgement(None, measures, None if left == text else left)

    def _pieces(self, text: str) -> Iterable[str]:
        if self._rules.split == "lines":
            return text.splitlines()
        return self._sentences(text)

    def _malformed(self, line: str, words: list[str]) -> bool:
        """Whether a line with these words is no sentence by its form."""
        if any(len(word) > self._rules.max_word_length for word in words):
            return True
        if self._rules.require_terminal_punctuation and (
            not line.endswith(_TERMINAL) or line.endswith("...")
        ):
            return True
        return len(words) < self._rules.min_words_per_line

    def _sentences(self, text: str) -> list[str]:
        return sentences(text, self.split(text), self._rules.words)


def build(config: C4, context: Context) -> C4Rules:
    """Builds the processor."""
    return C4Rules(config)
