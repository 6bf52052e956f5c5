"""The contract of objectives that learn from the model's own answers, carried out over two rounds."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from engine.component import Example
from engine.config import ObjectiveConfig
from engine.feed import pack_examples, unpack_examples
from engine.language_model import LanguageModel
from engine.modules import attend, head
from engine.objective import Round
from engine.testing.standalone import StandAloneContext, require, require_json, tiny_model
from engine.testing.training import (
    LENGTH,
    Learner,
    check_sums,
    examples_of,
    frozen_beside,
    move,
    unbatched,
)

_COUNTS = ("passes", "mini_batches", "episodes_per_prompt")
EVENT = ("event", "time", "stage", "step", "tokens")
"""What every step's event says of itself."""
_MEASURED = ("loss", "lr", "grad_norm", "skipped", "tokens_per_second", "memory")


def objective(new: Callable[[], Any], config: ObjectiveConfig, context: StandAloneContext) -> None:
    """Rounds that depend on seed, round and place, kept and resumed; sums that add up."""
    built = new()
    for name in _COUNTS:
        value = getattr(built, name, None)
        require(isinstance(value, int) and value >= 1, f"{name} is 1 or more, not {value!r}")
    examples: list[Example] = []
    for schema in sorted(config.takes):
        examples = examples_of(built, schema, context)
        unbatched(examples)
    prompts = dict(enumerate(examples))
    first, parted, resumed = (_Trial(new, prompts, context) for _ in range(3))
    whole = first.learn(1, [list(prompts)])
    require(
        _alike(whole, parted.learn(1, [[p for p in prompts if p % 2 == r] for r in (0, 1)])),
        "episodes depend on seed, round and place alone: any number of ranks makes the same round",
    )
    kept = require_json(first.built.state(), "state(), as checkpoints keep it")
    resumed.built.load(kept)
    require(resumed.built.state() == kept, "what was loaded is the state")
    following = first.learn(2, [list(prompts)])
    require(
        _alike(following, resumed.learn(2, [list(prompts)]))
        and first.built.state() == resumed.built.state(),
        "resumed, the next round is what it is without the break",
    )
    move(first.policy)
    check_sums(first.learners, first.frozen, following.episodes)


class _Trial:
    """An objective with its models, as a run has them."""

    def __init__(
        self,
        new: Callable[[], Any],
        prompts: Mapping[int, Example],
        context: StandAloneContext,
    ) -> None:
        self.built, self._prompts = new(), prompts
        self.policy = tiny_model(context)
        self.frozen = frozen_beside(self.built, self.policy)
        self.learners = [Learner(self.built, self.policy, head(self.policy))]
        asked = {"model": self.policy, **self.frozen}
        own = {id(parameter) for model in asked.values() for parameter in model.parameters()}
        for name, companion in self.built.companions(self.policy).items():
            model: Any = companion.build()
            require(
                own.isdisjoint(map(id, model.parameters())),
                f"what '{name}' learns is no part of another model",
            )
            self.learners.append(Learner(companion.objective, model, head(model)))
            asked[name] = model
        self._asked = {
            name: LanguageModel(_asked(model), context.tokenizer()) for name, model in asked.items()
        }

    def learn(self, number: int, shares: Sequence[Collection[int]]) -> Round:
        """A round whose prompts are shared out so, checked by itself."""
        each = self.built.episodes_per_prompt
        by_place: dict[int, list[Any]] = {}
        for share in shares:
            with torch.no_grad():
                own = self.built.collect(number, {p: self._prompts[p] for p in share}, self._asked)
            require(
                len(own) == len(share) * each,
                f"collect gives {each} episodes for each of {len(share)} prompts, not {len(own)}",
            )
            groups = [_sent(own[i : i + each]) for i in range(0, len(own), each)]
            by_place |= dict(zip(share, groups, strict=True))
        episodes = [episode for place in sorted(by_place) for episode in by_place[place]]
        learned: Round = self.built.learn(episodes)
        _check_round(learned, len(episodes))
        return learned


def _asked(model: Any) -> Any:
    asked = copy.deepcopy(model).eval()
    attend(asked)  # as strategies do for generation and scoring
    return asked


def _sent(episodes: Sequence[Any]) -> list[Any]:
    """As another rank gets them."""
    try:
        return pickle.loads(pickle.dumps(list(episodes)))  # type: ignore[no-any-return]
    except Exception as error:  # whatever a stranger's class does
        raise AssertionError(f"broken contract: episodes go to all ranks, but {error}") from error


def _check_round(learned: Round, count: int) -> None:
    require(isinstance(learned, Round), f"{learned!r} is no Round")
    require(
        len(learned.episodes) == count,
        f"learn gives an example for each of {count} episodes, not {len(learned.episodes)}: "
        "mini-batches and ranks have as many",
    )
    for example in learned.episodes:
        require(
            0 < example.length <= LENGTH,
            f"prompt and answer have 1 to {LENGTH} tokens together, not {example.length}",
        )
    try:
        kept = unpack_examples(pack_examples(learned.episodes))
        same = all(map(_same, learned.episodes, kept))
    except Exception:  # numpy and safetensors have many ways to refuse
        same = False
    require(same, "an example's fields are arrays _N, the same of all, as a checkpoint keeps them")
    require_figures(learned.figures, (*EVENT, *_MEASURED))
    require(len(learned.table) in (0, count), "the table has a row for every episode, or none")
    for row in learned.table:
        require_json(dict(row), "a row of the table")
        require(
            row.keys() == learned.table[0].keys()
            and all(isinstance(value, str | int | float) for value in row.values()),
            f"rows of the table are texts and numbers in the same columns, not {row}",
        )


def require_figures(figures: Mapping[str, float], taken: Collection[str]) -> None:
    """Finite numbers for a step's event, under names of their own."""
    for name, value in figures.items():
        require(
            name not in taken, f"a step's event has its own '{name}', so no figure is called so"
        )
        number = isinstance(value, int | float) and math.isfinite(value)
        require(number, f"the figure {name} is {value!r}, no finite number")
    require_json(dict(figures), "the figures of a step")


def _same(one: Example, other: Example) -> bool:
    return one.length == other.length and all(
        isinstance(value, np.ndarray)
        and value.dtype == other.fields[name].dtype
        and np.array_equal(value, other.fields[name])
        for name, value in one.fields.items()
    )


def _alike(one: Round, other: Round) -> bool:
    """The same but for rounding: other rows stood beside in a batch."""
    pairs = zip(one.episodes, other.episodes, strict=True)
    return all(
        a.length == b.length
        and all(
            v.shape == b.fields[name].shape and np.allclose(v, b.fields[name], rtol=1e-3, atol=1e-4)
            for name, v in a.fields.items()
        )
        for a, b in pairs
    )
