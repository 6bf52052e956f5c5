"""Processor ``mentions``: which groups of words documents mention.

It drops nothing. Placed first among the processors, it lets the card compare what rules drop of the
documents that mention a group with what they drop of all.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import pyarrow as pa

from engine import Context, Processor
from engine_corpus.judge.scores.columns import series_of
from engine_corpus.judge.scores.config import Mentions

PREFIX = "mentions_"


class MentionsProcessor(Processor):
    """Gives ``mentions_NAME`` for each group: whether the text has one of its words."""

    def __init__(self, config: Mentions) -> None:
        self._patterns = {name: _pattern(words) for name, words in config.groups.items()}

    def columns(self, batch: pa.RecordBatch) -> Mapping[str, pa.Array]:
        """See :class:`engine.Processor`."""
        texts = series_of(batch.column("text"))
        return {
            PREFIX + name: texts.str.contains(pattern).to_arrow().cast(pa.bool_())
            for name, pattern in self._patterns.items()
        }


def build(config: Mentions, context: Context) -> MentionsProcessor:
    """Builds the processor."""
    return MentionsProcessor(config)


def _pattern(words: Sequence[str]) -> str:
    """A pattern, in the syntax of Rust's regex, of one of the words between other characters than
    those of words; white space stands for any white space."""
    escaped = (r"\s+".join(re.escape(part) for part in word.split()) for word in words)
    return rf"(?i)(?:\A|\W)(?:{'|'.join(escaped)})(?:\W|\z)"
