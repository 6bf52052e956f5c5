"""Collects rollouts round by round, and gives each optimizer step its mini-batch of them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any

import numpy as np
import torch
from safetensors.numpy import load as load_arrays, save as save_arrays

from engine import (
    Batch,
    Example,
    Feed,
    FeedSetup,
    Progress,
    RunError,
    State,
    Taken,
    micro_batches,
    seed_of,
    write_durably,
)
from engine.modeling import attend
from engine_rlhf.online.rounds import RolloutContract, Round
from engine_rlhf.online.row_cuts import cut


class RolloutFeed(Feed):
    """Collects a round of rollouts with the current model, then trains on it for several epochs.

    Each epoch visits the round's episodes in a new order, one mini-batch for each optimizer step.
    Every rank holds all episodes, so the number of ranks does not change what is learned. A round's
    table is written to the setup's folder.
    """

    def __init__(self, objective: RolloutContract, setup: FeedSetup) -> None:
        self._objective, self._setup = objective, setup
        for model in setup.frozen.values():  # they come with the attention of training
            attend(model)
        self._round = Round([])
        self._round_number = 0
        """Counts from 1; 0 before the first round."""
        self._round_start = 0
        """Optimizer steps done when the round was collected."""
        self._prompt_range = (0, 0)
        """Where in the data the round's prompts begin and end."""
        self._prompt_multiple = self._even_prompts()

    def take(self, state: State, progress: Progress, stopping: Callable[[], bool]) -> Taken | None:
        """See :class:`Feed`."""
        step, steps = state.step - self._round_start, self._steps()
        excluded = self._prompt_range in [tuple(r) for r in state.excluded]
        if not self._round_number or step == steps or excluded:
            if stopping():
                return None
            self._collect(state, self._prompt_count(state, progress))
            step, steps = 0, self._steps()
        epoch, mini_batch = divmod(step, self._mini_batches())
        episodes = self._round.episodes
        seed = seed_of(self._setup.plan.seed, self._round_number, epoch)
        order = np.random.default_rng(seed).permutation(len(episodes))
        chosen = np.array_split(order, self._mini_batches())[mini_batch]
        micro = self._micro_batches([episodes[i] for i in chosen])
        prompts = len(episodes) // self._objective.episodes_per_prompt
        finished = prompts * (step + 1) // steps - prompts * step // steps
        return Taken(micro, *self._prompt_range, finished, self._round.figures)

    def _micro_batches(self, episodes: Sequence[Example]) -> list[Batch]:
        """This rank's part of a mini-batch. Episodes of similar length share a micro-batch, which saves
        padding; every rank cuts at the same places."""
        plan, strategy = self._setup.plan, self._setup.strategy
        ordered = sorted(episodes, key=lambda episode: -episode.length)
        rank, ranks = strategy.data_rank, strategy.data_size
        pieces = cut(
            [episode.length for episode in ordered[::ranks]],
            most=plan.micro_rows * plan.sequence,
            overhead=plan.overhead,
            pieces=strategy.min_micro_batches,
        )
        return micro_batches(
            ordered[rank::ranks], pieces, self._objective.collate, lambda: ordered[-1]
        )

    def _steps(self) -> int:
        """Optimizer steps of the round: epochs times mini-batches."""
        return self._objective.passes * self._mini_batches()

    def _mini_batches(self) -> int:
        """Mini-batches in an epoch: fewer in a last round with fewer episodes than mini-batches."""
        return min(self._objective.mini_batches, len(self._round.episodes))

    def state(self) -> tuple[dict[str, Any], bytes]:
        """See :class:`Feed`."""
        kept = {
            "round": self._round_number,
            "begun": self._round_start,
            "range": self._prompt_range,
            "figures": dict(self._round.figures),
            "objective": self._objective.state(),
        }
        return kept, pack_examples(self._round.episodes)

    def load(self, state: dict[str, Any], blob: bytes) -> None:
        """See :class:`Feed`."""
        self._round_number, self._round_start = state["round"], state["begun"]
        self._prompt_range = (state["range"][0], state["range"][1])
        self._round = Round(unpack_examples(blob), state["figures"])
        self._objective.load(state["objective"])

    def _prompt_count(self, state: State, progress: Progress) -> int:
        """Prompts of the next round: the global batch, rounded down so that mini-batches are of equal
        size, or what a budget in epochs has left."""
        plan = self._setup.plan
        prompts = plan.batch_tokens(progress) // plan.sequence
        prompts = max(self._prompt_multiple, prompts - prompts % self._prompt_multiple)
        return self._setup.in_budget(state, prompts)

    def _collect(self, state: State, count: int) -> None:
        """Collects the next round from the next ``count`` prompts."""
        setup, objective = self._setup, self._objective
        strategy, context = setup.strategy, setup.context
        prompts, cursor = setup.data.take(
            state.cursor, count, state.excluded, strategy.data_rank, strategy.data_size
        )
        self._round_number += 1
        with ExitStack() as stack, torch.no_grad():
            policy = stack.enter_context(strategy.inference(averaged=False))
            models = {"model": policy, **setup.frozen}
            models |= stack.enter_context(strategy.companions())
            answering = {
                name: context.language_model(
                    model,
                    context.tokenizer(),
                    context=setup.plan.sequence,
                    progress=partial(self._show_progress, name),
                )
                for name, model in models.items()
            }
            places = range(strategy.data_rank, count, strategy.data_size)
            own: list[Any] = []
            if prompts:
                own = objective.collect(
                    self._round_number, dict(zip(places, prompts, strict=True)), answering
                )
        by_rank = dict(context.gather((strategy.data_rank, own)))
        each = objective.episodes_per_prompt
        groups = [
            by_rank[place % strategy.data_size][(place // strategy.data_size) * each :][:each]
            for place in range(count)
        ]
        self._round = objective.learn([episode for group in groups for episode in group])
        self._round_start, self._prompt_range = state.step, (state.cursor, cursor)
        if context.rank == 0 and self._round.table:
            lines = "".join(json.dumps(row) + "\n" for row in self._round.table)
            write_durably(setup.folder / f"round-{self._round_number:06d}.jsonl", lines)
        setup.progress(f"round {self._round_number}", 1.0, 1.0, "")

    def _show_progress(self, model: str, done: int, total: int) -> None:
        """Names the model at work; the bar is full only when all of them have finished."""
        self._setup.progress(f"round {self._round_number}", min(done / total, 0.999), 1.0, model)

    def _even_prompts(self) -> int:
        """The fewest prompts whose episodes divide evenly into mini-batches and ranks.

        Raises RunError where the first round's prompts are not a multiple of it.
        """
        plan, objective = self._setup.plan, self._objective
        ranks = self._setup.strategy.data_size
        prompts, each = plan.first_tokens // plan.sequence, objective.episodes_per_prompt
        parts = objective.mini_batches * ranks
        multiple = math.lcm(ranks, parts // math.gcd(parts, each))
        if prompts % multiple:
            raise RunError(
                f"{plan.stage}: a round of {prompts} prompts ({prompts * each} episodes) does not "
                f"divide evenly into {objective.mini_batches} mini-batches on each of {ranks} ranks",
                hint="change batch.examples or mini_batches",
            )
        return multiple


def pack_examples(examples: Sequence[Example]) -> bytes:
    """Serialises examples whose fields are one-dimensional arrays ``_N`` as one safetensors file."""
    if not examples:
        return b""
    arrays = {"length": np.array([e.length for e in examples])}
    for name in examples[0].fields:
        parts = [np.asarray(e.fields[name]) for e in examples]
        arrays[f"{name}.values"] = np.concatenate(parts)
        arrays[f"{name}.sizes"] = np.array([len(p) for p in parts])
    return bytes(save_arrays(arrays))


def unpack_examples(blob: bytes) -> list[Example]:
    """Restores the examples from the bytes of :func:`pack_examples`."""
    if not blob:
        return []
    arrays = load_arrays(blob)
    names = [n.removesuffix(".values") for n in arrays if n.endswith(".values")]
    columns = {
        n: np.split(arrays[f"{n}.values"], np.cumsum(arrays[f"{n}.sizes"])[:-1]) for n in names
    }
    return [
        Example(int(length), {n: columns[n][row] for n in names})
        for row, length in enumerate(arrays["length"])
    ]
