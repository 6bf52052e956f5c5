"""Checks that evaluators keep their contract."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields
from itertools import islice
from typing import Any

from engine.contracts.config import Config
from engine.contracts.language_model import Generation
from engine.contracts.records import Record
from engine.contracts.scoring import Item, ItemTexts, Sample, Score
from engine.errors import RunError
from engine.modeling.heads import with_scalar_head
from engine.testing.elsewhere import elsewhere
from engine.testing.requirements import require, require_json, works
from engine.testing.standalone import StandAloneContext, tiny_model

_ITEMS = 16
"""Items that are asked."""
_HALVED = (0.35, 0.65)
"""What becomes of a standard error over four times the rows: at two rows, 1/√7."""


def evaluator(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks an evaluator's items, texts, rows and scores."""
    built = new()
    items = list(islice(built.items(), _ITEMS))
    require(items, "there is at least one item")
    require(all(isinstance(item, Item) for item in items), f"{items[0]!r} is not an Item")
    _check_items(new, built, items, config, context)
    _texts(new, config, context)
    model = tiny_model(context)
    if getattr(config, "head", "lm") == "scalar":
        model = with_scalar_head(model, context.seed)
    lm = context.language_model(model.eval(), context.tokenizer())
    rows, responses = [], []
    for item in items:
        responses.append(lm.answer(item.requests))
        row = built.score(item, responses[-1])
        require_json(row, "a row, which unfinished evaluations store")
        rows.append(row)
    together = built.score_all(items, responses)
    require(
        together == rows,
        "score_all gives the row of each item that score gives, in the items' order",
    )
    given = copy.deepcopy(rows)
    scores = built.summarise(rows)
    require(rows == given, "summarise leaves the rows as they are, as they are stored and compared")
    require(scores, "the rows give at least one score")
    for sample in built.samples(rows):
        require(isinstance(sample, Sample), f"{sample!r} is not a Sample")
        texts = all(isinstance(text, str) for text in (sample.prompt, sample.text))
        require(texts, f"{sample!r} has two texts")
    require(rows == given, "samples leaves the rows as they are, too")
    for some in (rows, rows[:1]):
        for score in built.summarise(some):
            _check_score(score, len(some))
    require(
        new().summarise(rows) == scores,
        "scores depend on rows alone, as another process may resume",
    )
    reverse = {score.metric: score.value for score in built.summarise(rows[::-1])}
    for score in scores:
        require(
            math.isclose(reverse[score.metric], score.value, rel_tol=1e-6, abs_tol=1e-9),
            f"{score.metric} does not depend on the rows' order, as ranks divide them",
        )
    if len(rows) > 1:
        _check_means(scores, built.summarise(rows * 4))


def _check_items(
    new: Callable[[], Any],
    built: Any,
    items: Sequence[Item],
    config: Config,
    context: StandAloneContext,
) -> None:
    ids = [item.id for item in items]
    require(len(set(ids)) == len(ids), "ids are unique")
    asked = [(item.id, repr(item.requests)) for item in items]
    same = "items are always the same, each with the same requests, also at the next evaluation"
    require(_asked(new) == asked, same)
    require(_asked(lambda: built) == asked, same)
    for found in elsewhere(_asked, "evaluator", config, context):
        require(
            found == asked,
            "in a new process the items are the same, in the same order; the order of a `set` of texts "
            "is another one in each process: sort it",
        )
    for item in items:
        drawn = [r for r in item.requests if isinstance(r, Generation) and r.temperature]
        require(
            len({repr(request) for request in drawn}) == len(drawn),
            f"the samples of item '{item.id}' have seeds of their own (engine.seed_of)",
        )
    if type(context) is StandAloneContext and not getattr(config, "held_out", False):
        without = _HoldsNothingOut(**{f.name: getattr(context, f.name) for f in fields(context)})
        works(
            "its configuration sets held_out = True, or it reads no held-out records",
            lambda: list(islice(without.component("evaluator", config).items(), _ITEMS)),
        )


def _asked(new: Callable[[], Any]) -> list[tuple[str, str]]:
    return [(item.id, repr(item.requests)) for item in islice(new().items(), _ITEMS)]


def _check_means(scores: Sequence[Score], repeated: Sequence[Score]) -> None:
    """Checks that rows of which there are four times as many give the same values, twice as sure."""
    again = {score.metric: score for score in repeated}
    for score in scores:
        other = again[score.metric]
        require(
            math.isclose(other.value, score.value, rel_tol=1e-6, abs_tol=1e-9),
            f"{score.metric} is a mean, which stays the same where each row stands there four times: "
            f"{score.value:.6g}, not {other.value:.6g}",
        )
        if not score.stderr or other.stderr is None:
            continue
        ratio = other.stderr / score.stderr
        low, high = _HALVED
        require(
            low < ratio < high,
            f"{score.metric}'s stderr is that of its value, half as large over four times the rows: "
            f"{score.stderr:.3g} and {other.stderr:.3g}",
        )


def _texts(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks the texts of an evaluator that tells them."""
    texts = list(new().texts())
    for one in texts:
        require(isinstance(one, ItemTexts), f"{one!r} is not an ItemTexts")
        found = (one.question, one.answer, one.passage)
        are_texts = all(text is None or isinstance(text, str) for text in found)
        require(are_texts, f"{found!r} of item {one.id!r} are texts or None")
    ids = [one.id for one in texts]
    require(len(set(ids)) == len(ids), "the ids of texts are unique")
    require(list(new().texts()) == texts, "texts are always the same")
    if texts and getattr(config, "limit", None) is None:
        unknown = set(ids).difference(item.id for item in new().items())
        require(not unknown, f"texts have the ids of items, which {sorted(unknown)[:3]} are not")
    if texts:
        before = _BeforeTraining(**{f.name: getattr(context, f.name) for f in fields(context)})
        try:
            again = list(before.component("evaluator", config).texts())
        except Exception as error:  # a plugin's class may raise anything
            again = [error]
        require(
            again == texts,
            f"texts need no model and no tokenizer, as a corpus is searched before: {again[:1]}",
        )


class _HoldsNothingOut(StandAloneContext):
    """A context of a stage that holds nothing out."""

    def held_out(self) -> Iterator[Record]:
        raise KeyError("the stage has no held-out records")


class _BeforeTraining(StandAloneContext):
    """A context without a tokenizer."""

    def tokenizer(self) -> Any:
        raise RunError("there is no tokenizer yet")


def _check_score(score: Score, items: int) -> None:
    require(isinstance(score, Score), f"{score!r} is not a Score")
    require(math.isfinite(score.value), f"{score.metric} is {score.value}")
    require(score.stderr is None or score.stderr >= 0, f"{score.metric} ± {score.stderr}")
    low, high = score.interval or (score.value, score.value)
    require(low <= score.value <= high, f"{score.metric} is in its interval, {score.interval}")
    require(score.n <= items, f"{score.metric} counts {score.n} items of {items}")
