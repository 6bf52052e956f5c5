"""Contracts of evaluators and rewards. Nothing here imports torch."""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from engine.contracts.records import Said

if TYPE_CHECKING:
    from torch import Tensor

from engine.contracts.language_model import Request, Response

CLEAN = "_clean"
"""Ends the name of a metric that leaves out the items which training documents have."""
_Z = 1.96


@dataclass(frozen=True, slots=True)
class Item:
    """One item to score: the requests to the model, and data that the evaluator needs for scoring."""

    id: str
    requests: tuple[Request, ...]
    data: Any = None


@dataclass(frozen=True, slots=True)
class Score:
    """A metric's value with its standard error over ``n`` items.

    ``interval``: a 95 % interval, if it is not ± 1.96 standard errors. ``fingerprint``: hash of the
    requests and the tokenizer, set by the engine; scores are comparable if it is the same.
    """

    metric: str
    value: float
    stderr: float | None
    n: int
    higher_is_better: bool = True
    fingerprint: str = ""
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """A text that a model wrote after a prompt, for people to read."""

    prompt: str
    text: str


@dataclass(frozen=True, slots=True)
class ItemTexts:
    """The texts of an item, for which documents are searched; None for what it does not have.

    ``id``: the item's; ``question``: the question alone, without a prompt's instructions and examples;
    ``answer``: the right answer; ``passage``: a text that the question is about.
    """

    id: str
    question: str | None = None
    answer: str | None = None
    passage: str | None = None


@dataclass(frozen=True, slots=True)
class BenchmarkTexts:
    """The texts of all items of an evaluator, by its name; none if the evaluator does not tell them."""

    name: str
    items: tuple[ItemTexts, ...] = ()


def seed_of(*names: int | str) -> int:
    """A 63-bit seed derived from names, such as those of a task, an item and a sample."""
    digest = hashlib.blake2b(repr(names).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


class Evaluator(ABC):
    """Makes requests and scores the responses. It never sees a model: the core batches the requests,
    shares them over ranks, stores the responses and resumes.

    In each evaluation every rank calls ``items``, ``score_all`` for the items that it has answered, and
    ``summarise`` and ``compare`` for the rows of all ranks. ``texts`` is called where documents are
    searched for items, and before an evaluation of a model trained on such documents.
    """

    open_ended: ClassVar[bool] = False
    """True for an evaluator whose texts may reach their length limit; for others that is a warning."""

    @abstractmethod
    def items(self) -> Iterable[Item]:
        """The items, with the same ids and order at every call."""

    def texts(self) -> Iterable[ItemTexts]:
        """The texts of all items, in any order, by which they are found in training data; none by
        default. May be called before there is a model or a tokenizer."""
        return ()

    @abstractmethod
    def score(self, item: Item, responses: Sequence[Response]) -> dict[str, Any]:
        """The row of one item: named values, and texts for a person to read beside them."""

    @abstractmethod
    def summarise(self, rows: Sequence[dict[str, Any]]) -> list[Score]:
        """The scores over all rows."""

    def samples(self, rows: Sequence[dict[str, Any]]) -> Sequence[Sample]:
        """Texts in the rows that the log is to keep, each in an event ``sample`` with its step; none by
        default."""
        return ()

    def score_all(
        self, items: Sequence[Item], responses: Sequence[Sequence[Response]]
    ) -> list[dict[str, Any]]:
        """The rows of many items at once, for evaluators that query another model in batches."""
        return [self.score(*one) for one in zip(items, responses, strict=True)]

    def compare(
        self, rows: Sequence[dict[str, Any]], baseline: Sequence[dict[str, Any]]
    ) -> list[Score]:
        """Scores of the paired differences to a ``baseline``, whose rows belong to the same items in
        the same order; none by default."""
        return []


class Reward(Protocol):
    """Scores answers. Every rank calls ``score`` for the answers that it has sampled."""

    def score(
        self,
        prompts: Sequence[Said],
        completions: Sequence[str],
        rows: Sequence[Mapping[str, Any]],
    ) -> dict[str, Tensor]:
        """Scores N completions; each named value has shape ``_N``.

        A prompt is a text, or the messages of several turns. ``rows``: the further columns of each
        prompt's record, such as ``answer``, ``tests`` or ``id``.
        """


def score_interval(score: Mapping[str, Any]) -> tuple[float, float]:
    """The 95 % interval of a score's event: its own, or ± 1.96 standard errors; both ends are the value
    if it has neither."""
    value, error = score["value"], _Z * (score.get("stderr") or 0)
    low, high = score.get("interval") or (value - error, value + error)
    return low, high


def score_text(score: Mapping[str, Any]) -> str:
    """The value and its 95 % interval, rounded to the digits that the interval makes meaningful; of a
    log's null, which stands for infinity or no number, that it is not finite."""
    if score["value"] is None:
        return "not finite"
    value, (low, high) = score["value"], score_interval(score)
    below, above = value - low, high - value
    size = max(below, above)
    if not size or not math.isfinite(size):
        return f"{value:.4g}"
    decimals = max(0, 1 - math.floor(math.log10(size)))
    if math.isclose(below, above, rel_tol=0.01):
        return f"{value:.{decimals}f} ± {size:.{decimals}f}"
    return f"{value:.{decimals}f} [{low:.{decimals}f}, {high:.{decimals}f}]"
