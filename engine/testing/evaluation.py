"""Checks that evaluators keep their contract."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from itertools import islice
from typing import Any

from engine.contracts.config import Config
from engine.contracts.scoring import Item, ItemTexts, Score
from engine.errors import RunError
from engine.modeling.heads import with_scalar_head
from engine.testing.standalone import (
    StandAloneContext,
    require,
    require_json,
    tiny_model,
)

_ITEMS = 16
"""Items that are asked."""


def evaluator(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks an evaluator's items, texts, rows and scores."""
    built = new()
    items = list(islice(built.items(), _ITEMS))
    require(items, "there is at least one item")
    require(all(isinstance(item, Item) for item in items), f"{items[0]!r} is not an Item")
    ids = [item.id for item in items]
    require(len(set(ids)) == len(ids), "ids are unique")
    require([i.id for i in islice(new().items(), _ITEMS)] == ids, "items are always the same")
    _texts(new, config, context)
    model = tiny_model(context)
    if getattr(config, "head", "lm") == "scalar":
        model = with_scalar_head(model, context.seed)
    lm = context.language_model(model.eval(), context.tokenizer())
    rows = []
    for item in items:
        row = built.score(item, lm.answer(item.requests))
        require_json(row, "a row, which unfinished evaluations store")
        rows.append(row)
    scores = built.summarise(rows)
    require(scores, "the rows give at least one score")
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
