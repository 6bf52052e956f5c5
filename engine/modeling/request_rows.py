"""Rows of tokens whose scores are a log-likelihood, the same for every inference component.

Conventions are lm-eval's: context and continuation are tokenized together and then split, spaces at the
end of a context belong to its continuation, and a long text is scored in windows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from engine.contracts.language_model import LogLikelihood, Rolling
from engine.modeling.encoding import boundary, encoder, opened


@dataclass(frozen=True, slots=True)
class ScoredRow:
    """A row of tokens; log P is asked of the last ``scored`` (at least one)."""

    tokens: Sequence[int]
    scored: int


def scored_rows(
    tokenizer: Any, requests: Sequence[LogLikelihood | Rolling], context: int
) -> list[tuple[list[ScoredRow], bool]]:
    """For each request its rows of at most ``context`` + 1 tokens, and whether its beginning was cut.

    Its log-likelihood is the sum over the scored tokens of its rows; an empty text has no row.
    """
    found = []
    for request, (before, after) in zip(requests, _encoded(tokenizer, requests), strict=True):
        if isinstance(request, Rolling):
            found.append((list(_windows([*before, *after], context, request.stride)), False))
            continue
        whole = [*before, *after]
        cut = max(0, len(whole) - (context + 1))
        row = ScoredRow(whole[cut:], min(len(after), len(whole) - cut - 1))
        found.append(([row] if row.scored else [], cut > 0))
    return found


def _encoded(
    tokenizer: Any, requests: Sequence[LogLikelihood | Rolling]
) -> list[tuple[list[int], list[int]]]:
    """Tokens of each request's context and continuation."""
    pairs = [_context_and_whole(r) for r in requests if isinstance(r, LogLikelihood)]
    texts = {text for pair in pairs for text in pair if isinstance(text, str)}
    known = dict(zip(texts, opened(tokenizer, list(texts)), strict=True))
    first = [boundary(tokenizer)]
    found = []
    for request in requests:
        if isinstance(request, Rolling):
            found.append((first, encoder(tokenizer).text(request.text)))
            continue
        context, whole = (
            known[text] if isinstance(text, str) else list(text)
            for text in _context_and_whole(request)
        )
        split = len(context)
        found.append((whole[:split] or first, whole[split:]))
    return found


def _context_and_whole(
    request: LogLikelihood,
) -> tuple[str | tuple[int, ...], str | tuple[int, ...]]:
    """The context, and the context with its continuation."""
    context, continuation = request.context, request.continuation
    if not isinstance(context, str) or not isinstance(continuation, str):
        assert not isinstance(context, str), "context and continuation differ in type"
        assert not isinstance(continuation, str), "context and continuation differ in type"
        return context, context + continuation
    kept = context.rstrip()  # trailing spaces belong to the continuation's first token
    return kept, context + continuation


def _windows(stream: list[int], context: int, stride: int | None) -> Iterator[ScoredRow]:
    """Windows over a boundary token and a text, in which each token of the text is scored once."""
    stride, length = min(stride or context, context), len(stream) - 1
    start, end = 0, min(context, length)
    while start < end:
        # As in lm-eval the last window is as long as the others, with more context before it.
        yield ScoredRow(stream[max(0, end - context) : end + 1], end - start)
        start, end = end, min(end + stride, length)
