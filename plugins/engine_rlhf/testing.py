"""Contract check for authors of online objectives, over two rounds with small models."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, cast

import numpy as np
import torch

from engine import Example, ObjectiveConfig
from engine.modeling import attend, head
from engine.testing import (
    EVENT,
    LENGTH,
    Learner,
    StandAloneContext,
    check_sums,
    examples_of,
    frozen_beside,
    move,
    require,
    require_figures,
    require_json,
    tiny_model,
    unbatched,
)
from engine_rlhf.online.rollout_feed import pack_examples, unpack_examples
from engine_rlhf.online.rounds import Round

_COUNTS = ("passes", "mini_batches", "episodes_per_prompt")
_MEASURED = ("loss", "lr", "grad_norm", "skipped", "tokens_per_second", "memory")


def check_online(settings: Mapping[str, Any], context: StandAloneContext | None = None) -> None:
    """Builds an installed online objective from a spec's settings, and checks its contract: rollouts
    depend only on seed, round and place; state resumes exactly; losses of micro-batches add up.

    Raises AssertionError that names the broken rule of :class:`RolloutObjective`.
    """
    context = context or StandAloneContext()
    config = cast("ObjectiveConfig", context.config("objective", settings))

    def new() -> Any:
        return context.component("objective", config)

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
        "episodes depend on seed, round and place alone, whatever the number of ranks",
    )
    kept = require_json(first.built.state(), "state(), as checkpoints keep it")
    resumed.built.load(kept)
    require(resumed.built.state() == kept, "state() returns what load() was given")
    following = first.learn(2, [list(prompts)])
    require(
        _alike(following, resumed.learn(2, [list(prompts)]))
        and first.built.state() == resumed.built.state(),
        "after a resume, the next round is the same as without it",
    )
    move(first.policy)
    check_sums(first.learners, first.frozen, following.episodes)


class _Trial:
    """An objective with its models, set up as in a run."""

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
            model: Any = companion.model
            require(
                own.isdisjoint(map(id, model.parameters())),
                f"the weights of '{name}' are not shared with another model",
            )
            self.learners.append(Learner(companion.loss, model, head(model)))
            asked[name] = model
        self._asked = {
            name: context.language_model(_asked(model), context.tokenizer())
            for name, model in asked.items()
        }

    def learn(self, number: int, shares: Sequence[Collection[int]]) -> Round:
        """Collects and checks a round whose prompts are divided into ``shares``, one for each rank."""
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
    attend(asked)  # as strategies do before generation and scoring
    return asked


def _sent(episodes: Sequence[Any]) -> list[Any]:
    """The episodes as another rank receives them."""
    try:
        return pickle.loads(pickle.dumps(list(episodes)))  # type: ignore[no-any-return]
    except Exception as error:  # a plugin's class may raise anything
        raise AssertionError(f"broken contract: episodes can be pickled, but {error}") from error


def _check_round(learned: Round, count: int) -> None:
    require(isinstance(learned, Round), f"learn returns a Round, not {learned!r}")
    require(
        len(learned.episodes) == count,
        f"learn gives an example for each of {count} episodes, not {len(learned.episodes)}, so that "
        "mini-batches and ranks are of equal size",
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
    require(same, "all examples have the same fields, which are numpy arrays _N")
    require_figures(learned.figures, (*EVENT, *_MEASURED))
    require(len(learned.table) in (0, count), "the table has a row for every episode, or no rows")
    for row in learned.table:
        require_json(dict(row), "a row of the table")
        require(
            row.keys() == learned.table[0].keys()
            and all(isinstance(value, str | int | float) for value in row.values()),
            f"all rows of the table have the same columns, of texts and numbers, not {row}",
        )


def _same(one: Example, other: Example) -> bool:
    return one.length == other.length and all(
        isinstance(value, np.ndarray)
        and value.dtype == other.fields[name].dtype
        and np.array_equal(value, other.fields[name])
        for name, value in one.fields.items()
    )


def _alike(one: Round, other: Round) -> bool:
    """Equal except for rounding, which depends on the other rows in a batch."""
    pairs = zip(one.episodes, other.episodes, strict=True)
    return all(
        ours.length == theirs.length
        and all(
            value.shape == theirs.fields[name].shape
            and np.allclose(value, theirs.fields[name], rtol=1e-3, atol=1e-4)
            for name, value in ours.fields.items()
        )
        for ours, theirs in pairs
    )
