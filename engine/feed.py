"""Where a step's micro-batches come from: records in the order of a mixture, or a round's episodes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from safetensors.numpy import load as load_arrays
from safetensors.numpy import save as save_arrays
from torch import nn

from engine.component import Batch, Example, Objective, Progress, Strategy
from engine.data.dataset import TrainingData
from engine.errors import RunError
from engine.language_model import LanguageModel
from engine.launch import Process
from engine.manifest import write_durably
from engine.modules import attend
from engine.objective import BaseObjective, BaseOnlineObjective, Round
from engine.pieces import cut, even, micro_batches
from engine.plan import Plan, State
from engine.requests import seed_of


@dataclass(frozen=True, slots=True)
class Taken:
    """One step's micro-batches on this rank, and where the data then is.

    ``start`` is where the data begins that they were made of; ``samples`` are the records that are done
    with, over all ranks; ``figures`` join the step's event.
    """

    micro_batches: list[Batch]
    start: int
    cursor: int
    samples: int
    figures: Mapping[str, float] = field(default_factory=dict)


class Feed(Protocol):
    """Gives every step what it learns from. Its state is part of a checkpoint.

    A signal may come between what is taken and the step: asked again, it gives the same.
    """

    data: TrainingData

    def take(self, state: State, progress: Progress, stopping: Callable[[], bool]) -> Taken | None:
        """The next step's; None where it would take long and a signal asks any rank to stop."""

    def state(self) -> tuple[dict[str, Any], bytes]:
        """JSON-able state, and what is too large for it."""

    def load(self, state: dict[str, Any], blob: bytes) -> None:
        """Takes the state back."""


class RecordFeed:
    """As many rows on every rank, but in the last step of a budget in epochs, which takes what is left.

    A rank with fewer then has as many micro-batches all the same: a collective in the forward pass
    would wait for the missing.
    """

    def __init__(
        self, data: TrainingData, objective: Objective, strategy: Strategy, plan: Plan
    ) -> None:
        self.data = data
        self._objective, self._strategy, self._plan = objective, strategy, plan

    def take(self, state: State, progress: Progress, stopping: Callable[[], bool]) -> Taken:
        """See :class:`Feed`."""
        plan, strategy = self._plan, self._strategy
        rows = plan.ramp.tokens(progress) // plan.sequence // strategy.data_size
        rows = _in_budget(self.data, plan, state, max(rows, 1) * strategy.data_size)
        examples, cursor = self.data.take(
            state.cursor, rows, state.excluded, strategy.data_rank, strategy.data_size
        )
        most = -(-rows // strategy.data_size)
        pieces = even(most, plan.rows_at_once(most, getattr(strategy, "min_micro_batches", 1)))
        batches = micro_batches(examples, pieces, self._objective, partial(self._first, state))
        if isinstance(self._objective, BaseObjective) and self._objective.observes:
            batches = _observed(batches, self._objective, strategy)
        return Taken(batches, state.cursor, cursor, rows)

    def _first(self, state: State) -> Example:
        """The step's first row."""
        (example,), _ = self.data.take(state.cursor, 1, state.excluded, 0, 1)
        return example

    def state(self) -> tuple[dict[str, Any], bytes]:
        """See :class:`Feed`."""
        return {}, b""

    def load(self, state: dict[str, Any], blob: bytes) -> None:
        """Nothing: the loop's cursor says it all."""


class EpisodeFeed:
    """Rounds of episodes: prompts are answered by the model as it is, then learned from in steps.

    Every rank holds the whole round, so what is learned from it depends on no number of ranks.
    ``frozen`` are models that are asked and do not learn, ``companions()`` enters those that learn
    beside. A round's table is written to ``folder``; ``progress`` is that of a
    :class:`engine.log.Display`.
    """

    def __init__(
        self,
        data: TrainingData,
        objective: BaseOnlineObjective,
        strategy: Strategy,
        plan: Plan,
        *,
        process: Process,
        tokenizer: Any,
        frozen: Mapping[str, nn.Module],
        folder: Path,
        progress: Callable[[str, float, float, str], None],
    ) -> None:
        self.data = data
        self._objective: Any = objective
        self._strategy: Any = strategy
        self._plan, self._process, self._tokenizer = plan, process, tokenizer
        self._frozen, self._folder, self._progress = frozen, folder, progress
        for model in frozen.values():  # they come with the attention of training
            attend(model)
        self._number = 0
        self._begun = 0
        """The step before which the round was begun."""
        self._range = (0, 0)
        self._round = Round([])
        self._share = self._shared_alike()

    def take(self, state: State, progress: Progress, stopping: Callable[[], bool]) -> Taken | None:
        """See :class:`Feed`."""
        objective = self._objective
        used, steps = state.step - self._begun, objective.passes * self._parts()
        if not self._number or used == steps or self._range in [tuple(r) for r in state.excluded]:
            if stopping():
                return None
            self._begin(state, self._prompts(state, progress))
            used, steps = 0, objective.passes * self._parts()
        passed, part = divmod(used, self._parts())
        episodes = self._round.episodes
        seed = seed_of(self._plan.seed, self._number, passed)
        order = np.random.default_rng(seed).permutation(len(episodes))
        chosen = np.array_split(order, self._parts())[part]
        batches = self._batches([episodes[i] for i in chosen])
        prompts = len(episodes) // objective.episodes_per_prompt
        done = prompts * (used + 1) // steps - prompts * used // steps
        return Taken(batches, *self._range, done, self._round.figures)

    def _batches(self, episodes: Sequence[Example]) -> list[Batch]:
        """A step's episodes on this rank. Those of a length are together, so that less of a row is
        padding, and cut alike on every rank."""
        plan, strategy = self._plan, self._strategy
        ordered = sorted(episodes, key=lambda episode: -episode.length)
        rank, ranks = strategy.data_rank, strategy.data_size
        pieces = cut(
            [episode.length for episode in ordered[::ranks]],
            most=plan.micro_rows * plan.sequence,
            overhead=plan.overhead,
            pieces=getattr(strategy, "min_micro_batches", 1),
        )
        return micro_batches(ordered[rank::ranks], pieces, self._objective, lambda: ordered[-1])

    def _parts(self) -> int:
        """Mini-batches of the round: a last one may have too few episodes for all."""
        asked: int = self._objective.mini_batches
        return min(asked, len(self._round.episodes))

    def state(self) -> tuple[dict[str, Any], bytes]:
        """See :class:`Feed`."""
        kept = {
            "round": self._number,
            "begun": self._begun,
            "range": self._range,
            "figures": dict(self._round.figures),
            "objective": self._objective.state(),
        }
        return kept, pack_examples(self._round.episodes)

    def load(self, state: dict[str, Any], blob: bytes) -> None:
        """See :class:`Feed`."""
        self._number, self._begun = state["round"], state["begun"]
        self._range = (state["range"][0], state["range"][1])
        self._round = Round(unpack_examples(blob), state["figures"])
        self._objective.load(state["objective"])

    def _prompts(self, state: State, progress: Progress) -> int:
        """Of a round: whole shares, however the batch grows; in a last one, what a budget in epochs
        has left."""
        prompts = self._plan.ramp.tokens(progress) // self._plan.sequence
        prompts = max(self._share, prompts - prompts % self._share)
        return _in_budget(self.data, self._plan, state, prompts)

    def _begin(self, state: State, count: int) -> None:
        """A new round of so many prompts."""
        strategy, objective = self._strategy, self._objective
        prompts, cursor = self.data.take(
            state.cursor, count, state.excluded, strategy.data_rank, strategy.data_size
        )
        self._number += 1
        with ExitStack() as stack, torch.no_grad():
            own = stack.enter_context(strategy.inference(averaged=False))
            models = {"model": own, **self._frozen}
            if hasattr(strategy, "companions"):
                models |= stack.enter_context(strategy.companions())
            asked = {
                name: LanguageModel(
                    model,
                    self._tokenizer,
                    context=self._plan.sequence,
                    progress=partial(self._tell, name),
                )
                for name, model in models.items()
            }
            places = range(strategy.data_rank, count, strategy.data_size)
            own = []
            if prompts:
                own = objective.collect(
                    self._number, dict(zip(places, prompts, strict=True)), asked
                )
        parts = self._process.all_gather((strategy.data_rank, own))
        by_rank = dict(parts)
        each = objective.episodes_per_prompt
        groups = [
            by_rank[i % strategy.data_size][(i // strategy.data_size) * each :][:each]
            for i in range(count)
        ]
        self._round = objective.learn([episode for group in groups for episode in group])
        self._begun, self._range = state.step, (state.cursor, cursor)
        if self._process.rank == 0 and self._round.table:
            lines = "".join(json.dumps(row) + "\n" for row in self._round.table)
            write_durably(self._folder / f"round-{self._number:06d}.jsonl", lines)
        self._progress(f"round {self._number}", 1.0, 1.0, "")

    def _tell(self, model: str, done: int, total: int) -> None:
        """Shows which model is asked; the bar stays until the round is there."""
        self._progress(f"round {self._number}", min(done / total, 0.999), 1.0, model)

    def _shared_alike(self) -> int:
        """The fewest prompts of which mini-batches and ranks get equal parts.

        Raises RunError where the first round has not a multiple of them.
        """
        objective, ranks = self._objective, self._strategy.data_size
        prompts, each = self._plan.ramp.first // self._plan.sequence, objective.episodes_per_prompt
        parts = objective.mini_batches * ranks
        share = math.lcm(ranks, parts // math.gcd(parts, each))
        if prompts % share:
            raise RunError(
                f"{self._plan.stage}: {prompts} prompts, {prompts * each} episodes of a round cannot "
                f"be shared alike by {objective.mini_batches} mini-batches and {ranks} ranks",
                mend="change batch.examples or mini_batches",
            )
        return share


def _in_budget(data: TrainingData, plan: Plan, state: State, rows: int) -> int:
    """So many rows, or what a budget in epochs has left."""
    if plan.budget.unit != "epochs":
        return rows
    return min(rows, data.left(state.cursor, state.excluded, data.end(plan.budget)))


def _observed(batches: list[Batch], objective: BaseObjective, strategy: Strategy) -> list[Batch]:
    sums: dict[str, float] = {}
    with strategy.inference(averaged=False) as model, torch.no_grad():
        for batch in batches:
            weight = 1.0 if batch.tokens else 0.0  # every rank names what it has not seen as well
            for name, (total, count) in objective.observe(batch, model).items():
                sums[name] = sums.get(name, 0.0) + weight * total
                sums[f"{name}/count"] = sums.get(f"{name}/count", 0.0) + weight * count
    sums = strategy.all_sum(sums)
    means = {n: total / max(sums[f"{n}/count"], 1.0) for n, total in sums.items() if "/" not in n}
    return [objective.settle(batch, means) for batch in batches]


def pack_examples(examples: Sequence[Example]) -> bytes:
    """Examples whose fields are arrays ``_N`` as one safetensors file."""
    if not examples:
        return b""
    arrays = {"length": np.array([e.length for e in examples])}
    for name in examples[0].fields:
        parts = [np.asarray(e.fields[name]) for e in examples]
        arrays[f"{name}.values"] = np.concatenate(parts)
        arrays[f"{name}.sizes"] = np.array([len(p) for p in parts])
    return bytes(save_arrays(arrays))


def unpack_examples(blob: bytes) -> list[Example]:
    """The examples that :func:`pack_examples` packed."""
    if not blob:
        return []
    arrays = load_arrays(blob)
    names = [n.removesuffix(".values") for n in arrays if n.endswith(".values")]
    columns = {
        n: np.split(arrays[f"{n}.values"], np.cumsum(arrays[f"{n}.sizes"])[:-1]) for n in names
    }
    return [
        Example(int(length), {n: columns[n][i] for n in names})
        for i, length in enumerate(arrays["length"])
    ]
