"""Trains by `ppo` or `trl-ppo` and prints a JSON line per round: seconds of each phase.

``python ppo_peer.py SPEC RUNS STAGE``. A round is a rollout, scoring (by policy, reference, critic
and reward model, up to the advantages), and the update; whatever comes between two rounds is the
update's.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from engine_inference.language_model import SharedPrefixLM
from engine_rlhf.online.objective import OnlineObjective
from engine_rlhf.online.rollout_feed import RolloutFeed
from engine_rlhf.trl_ppo.trainer import PPOTrainer, _Trainer

from engine.cli import main

trl_loop: Any = sys.modules[PPOTrainer.__module__]


class Phases:
    """When each phase of the round ended, and how long its answers were."""

    def __init__(self) -> None:
        self._last = time.time()
        self._seconds: dict[str, float] = {}
        self.answer_tokens = 0.0

    def end(self, phase: str) -> None:
        """Of a phase that began where the one before ended."""
        now = time.time()
        self._seconds[phase] = self._seconds.get(phase, 0.0) + now - self._last
        self._last = now

    def tell(self) -> None:
        """At the end of a round."""
        self.end("update")
        if "rollout" in self._seconds:
            line = {"event": "round", "time": self._last, "answer_tokens": self.answer_tokens}
            print(json.dumps({**line, **self._seconds}), file=sys.__stdout__, flush=True)
        self._seconds = {}


PHASES = Phases()


def after(owner: Any, name: str, do: Callable[[Any], None]) -> None:
    """Lets ``do`` see what a function returns."""
    function = getattr(owner, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        do(result)
        return result

    setattr(owner, name, called)


def before(owner: Any, name: str, do: Callable[[], None]) -> None:
    """Calls ``do`` before a function."""
    function = getattr(owner, name)

    def called(*args: Any, **kwargs: Any) -> Any:
        do()
        return function(*args, **kwargs)

    setattr(owner, name, called)


def watch_ours() -> None:
    """The feed begins a round where the update before it is done."""

    def written(rollouts: Any) -> None:
        PHASES.end("rollout")
        PHASES.answer_tokens = sum(len(r.tokens) for r in rollouts) / len(rollouts)

    before(RolloutFeed, "_begin", PHASES.tell)
    after(SharedPrefixLM, "rollouts", written)
    after(OnlineObjective, "learn", lambda learned: PHASES.end("scoring"))


def watch_theirs(eos: int) -> None:
    """Whitening the advantages is the last that TRL does before the update."""

    def written(found: Any) -> None:
        PHASES.end("rollout")
        rows = found[0][:, -found[1].shape[1] :].tolist()
        lengths = [row.index(eos) + 1 if eos in row else len(row) for row in rows]
        PHASES.answer_tokens = sum(lengths) / len(lengths)

    after(trl_loop, "batch_generation", written)
    after(trl_loop, "masked_whiten", lambda white: PHASES.end("scoring"))
    after(_Trainer, "log", lambda nothing: PHASES.tell())


if __name__ == "__main__":
    spec, runs, stage, eos = sys.argv[1:]
    watch_ours()
    watch_theirs(int(eos))
    sys.argv[1:] = ["run", spec, "--runs", runs, "--stage", stage]
    main()
