"""What is asked of a model, what it answers, and the evaluators that ask.

Nothing here imports torch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """Asks for log P(continuation | context).

    Texts are tokenized together and then split, as lm-eval does; tokens stand as they are, as training
    has prompts and answers.
    """

    context: str | tuple[int, ...]
    continuation: str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rolling:
    """Asks for log P(text), read in windows of the model's context.

    ``stride`` tokens are scored per window; None means as many as fit (lm-eval's convention).
    """

    text: str
    stride: int | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """Asks for a continuation of the prompt, a text or tokens; ``temperature`` 0 takes the likeliest.

    Texts of one ``seed`` are drawn by the same random numbers, whatever their prompts: where they are
    to be independent, give each its own (:func:`seed_of`).
    """

    prompt: str | tuple[int, ...]
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Attack:
    """Asks for a text between ``before`` and ``after`` that makes an answer that is ``wrong`` likelier
    than the ``right`` one: ``tokens`` tokens, of which ``candidates`` exchanges are tried in each of so
    many ``steps``. Answered by the text and, as ``logprob``, the margin that it leaves in nats.
    """

    before: str
    after: str
    right: str
    wrong: tuple[str, ...]
    tokens: int = 5
    steps: int = 10
    candidates: int = 32
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Value:
    """Asks a scalar model, such as a reward model, for the value of an answer."""

    prompt: str | Sequence[Mapping[str, Any]]
    completion: str | Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None


Request = LogLikelihood | Rolling | Generation | Attack | Value


@dataclass(frozen=True, slots=True)
class Response:
    """The answer: ``logprob`` in nats over ``tokens`` tokens, the generated ``text``, or a ``value``,
    normalised: ``value_std`` is what it was divided by.

    Of a text, ``ids`` are what was written, its end included where it came, ``logprob`` is theirs at
    temperature 1, and ``tokens`` counts them without the end.

    ``truncated``: the beginning did not fit; ``ended``: the text came to its end, or to a stop string.
    """

    logprob: float = 0.0
    tokens: int = 0
    greedy: bool = False
    text: str = ""
    ids: tuple[int, ...] = ()
    truncated: bool = False
    ended: bool = True
    value: float = 0.0
    value_std: float = 1.0


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to score: what is asked of the model, and what the score needs to know."""

    id: str
    requests: tuple[Request, ...]
    data: Any = None


@dataclass(frozen=True, slots=True)
class Score:
    """A figure with its standard error over ``n`` items, and its 95 % interval where it has one of
    another form than ± 1.96 standard errors.

    The engine adds ``fingerprint``: of prompts, worked examples and tokenizer. Figures compare where
    it is the same.
    """

    metric: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool = True
    fingerprint: str = ""
    interval: tuple[float, float] | None = None


def seed_of(*names: int | str) -> int:
    """A seed of its own for what has these names, such as every task, item and sample."""
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Evaluator(Protocol):
    """Asks and scores; never sees a model, so the core batches, shards, caches and resumes.

    It may have ``compare(rows, baseline)``: the scores of the differences between two models, item by
    item, for stages with a ``baseline``; and ``score_all(items, responses)``: the rows of many items at
    once, where other models are asked as well.
    """

    def items(self) -> Iterable[Item]:
        """The items, always the same, with ids that stay."""

    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, Any]:
        """One row: named values of one item, and texts that a person may want to see beside them."""

    def summarise(self, rows: Sequence[dict[str, Any]]) -> list[Score]:
        """The scores over all rows."""
