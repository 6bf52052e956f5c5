"""Processor ``word-list``: finds words and phrases of a list."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from engine import Context, RunError
from engine_corpus.judge.rules.config import WordList
from engine_corpus.judge.rules.repetition import ratio
from engine_corpus.judge.rules.rule_set import Judgement, Limit, RuleSet
from engine_corpus.judge.rules.words import Split


class WordListRules(RuleSet):
    """Columns ``…_count``, occurrences, and ``…_share``, of the words that belong to one."""

    limits = (Limit("max_count", "count", ""), Limit("max_share", "share", ""))
    counts = ("count",)
    shares = ("share",)

    def __init__(self, config: WordList, terms: Iterable[str], split: Split | None = None) -> None:
        super().__init__(config, config.name.replace("-", "_"), split)
        self._limits = config
        self._phrases: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        for term in terms:
            words = self.split(term.casefold())
            self._phrases[words[0]].add(tuple(words))

    def judge(self, text: str) -> Judgement:
        """See :class:`RuleSet`."""
        words = self.split(text.casefold())
        count = 0
        covered: set[int] = set()
        if not self._phrases.keys().isdisjoint(words):
            for number, word in enumerate(words):
                for phrase in self._phrases.get(word, ()):
                    if tuple(words[number : number + len(phrase)]) == phrase:
                        count += 1
                        covered.update(range(number, number + len(phrase)))
        measures = {"count": count, "share": ratio(len(covered), len(words))}
        return Judgement(self._limits.name if self._broken(measures) else None, measures)

    def _broken(self, measures: dict[str, int | float | None]) -> bool:
        if self._limits.max_count is None and self._limits.max_share is None:
            return bool(measures["count"])
        return any(limit.broken(self._limits, measures) for limit in self.limits)


def build(config: WordList, context: Context) -> WordListRules:
    """Builds the processor. Raises RunError if the file cannot be read."""
    return WordListRules(config, [*config.list, *_lines(config.path)])


def _lines(path: str | None) -> list[str]:
    if path is None:
        return []
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
    except (OSError, UnicodeError) as error:
        hint = "it has to be a text file in UTF-8 with one word or phrase on each line"
        raise RunError(f"word list '{path}' cannot be read: {error}", hint=hint) from error
    return [line for line in text.splitlines() if line.strip()]
