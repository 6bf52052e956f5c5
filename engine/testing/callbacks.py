"""Checks that callbacks go on from their state, and tell all ranks the same."""

from __future__ import annotations

import copy
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any
from unittest.mock import patch

from engine.contracts.callback import RollBack, Stop
from engine.contracts.config import Config
from engine.testing.requirements import require, require_json
from engine.testing.standalone import StandAloneContext

_CONFIG: Mapping[str, Any] = {
    "budget": "12 steps",
    "precision": "fp32",
    "optimizer": {"type": "adamw", "lr": 1e-3},
    "evaluate": [{"type": "perplexity", "every": "4 steps"}],
}
"""Of the train stage."""
_STEPS = 300
_RUNS = ((8, 15), (33, None), (75, None), (140, None), (260, None))
"""Numbers of events after which a run is killed, and ends; the first is killed after step 7, so that
counters which the skipped step resets have counted again, and ends after step 12."""


def callback(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Checks answers, state, and that nothing but the events decides."""
    with tempfile.TemporaryDirectory() as folder:
        first = _started(new(), folder)
        limits = [first.spike_limit, *first.spike_limits.values()]
        require(all(isinstance(limit, int | float) for limit in limits), "spike_limit is a number")
        whole = [_answer(first, event) for event in _EVENTS]
        again = [
            _answer(second, event) for second in [_started(new(), folder)] for event in _EVENTS
        ]
        require(
            again == whole,
            "the same events always have the same answers: neither chance nor an earlier callback of "
            "the class has a part in them",
        )
        for killed, end in _RUNS:
            _check_resumed(new, folder, killed, whole[:end])
        _check_ranks(new, context, config, folder, whole)
        kept = _started(new(), folder)
        for event in _EVENTS[:50]:
            _answer(kept, event)
        state = kept.state()
        before = copy.deepcopy(state)
        for event in _EVENTS[50:100]:
            _answer(kept, event)
        require(state == before, "what state() gave stays as it was, as it is saved beside steps")
        first.stage_finished()
        unused = _started(new(), folder)
        unused.stage_finished()


def _check_resumed(new: Callable[[], Any], folder: str, killed: int, whole: Sequence[Any]) -> None:
    """Checks that a callback which is loaded after ``killed`` events goes on as one that is not."""
    first, second = _started(new(), folder), _started(new(), folder)
    for event in _EVENTS[:killed]:
        _answer(first, event)
    kept = require_json(first.state(), "state(), which checkpoints store")
    second.load(copy.deepcopy(kept))
    require(second.state() == kept, "state() gives what was loaded")
    for event, answer in zip(_EVENTS[killed : len(whole)], whole[killed:], strict=True):
        _answer(first, event)
        require(
            _answer(second, event) == answer,
            f"resumed, it answers step {event['step']} as if it had not been interrupted, with the "
            "same spike limits: let state() have every counter",
        )
    require(
        first.state() == second.state(),
        "resumed, it ends in the same state as if it had not been interrupted",
    )


def _check_ranks(
    new: Callable[[], Any],
    context: StandAloneContext,
    config: Config,
    folder: str,
    whole: Sequence[Any],
) -> None:
    """Checks that a callback on another rank, and one with another clock, answer the same."""
    other = replace(context, rank=1, world_size=2).component("callback", config)
    _started(other, folder)
    require(
        [_answer(other, event) for event in _EVENTS] == whole,
        "every rank gets the same answers, or the others wait for it for ever",
    )
    clock = count(time.time(), 60)
    with patch.multiple(
        time,
        time=lambda: next(clock),
        monotonic=lambda: next(clock),
        perf_counter=lambda: next(clock),
    ):
        late = _started(new(), folder)
        found = [_answer(late, event) for event in _EVENTS]
    require(
        found == whole,
        "answers do not depend on this machine's clock, which is another one on each rank: use the "
        "event's `time`",
    )


def _started(callback: Any, folder: str) -> Any:
    callback.stage_started("base", Path(folder), copy.deepcopy(_CONFIG))
    return callback


def _answer(callback: Any, event: Mapping[str, Any]) -> tuple[Stop | RollBack | None, Any]:
    """What it answers, and the limits that it then sets."""
    tell = callback.scored if event["event"] == "score" else callback.step_finished
    given = dict(event)
    answer = tell(given)
    require(
        answer is None or isinstance(answer, Stop | RollBack),
        f"{answer!r} is neither Stop, RollBack nor None",
    )
    changed = [name for name in {**event, **given} if not _same(given.get(name), event.get(name))]
    require(not changed, f"it does not change the event's {', '.join(changed)}, which others read")
    return answer, (callback.spike_limit, dict(callback.spike_limits))


def _same(one: Any, other: Any) -> bool:
    return bool(one == other) or (one != one and other != other)  # NaN


def _events() -> Iterator[Mapping[str, Any]]:
    """Steps of which the loss falls, twelve smoothly and the others not, with a score after every
    fourth; some are skipped."""
    for step in range(1, _STEPS + 1):
        common = {"stage": "base", "time": 1.7e9 + step, "step": step}
        skipped = step == 5 or step % 37 == 0
        noise = math.sin(step * step) if step > 12 else 0.0
        loss = 5.0 / min(step, 40) + 0.05 * noise
        yield {
            "event": "step",
            **common,
            "tokens": 480 * step,
            "loss": math.nan if skipped else loss,
            "lr": 1e-3,
            "grad_norm": math.inf if skipped else 1.0 + 0.2 * noise,
            "skipped": skipped,
            "tokens_per_second": 1000.0,
            "utilisation": 0.4,
            "memory": 2**30,
        }
        if step % 4 == 0:
            score = {"metric": "perplexity", "value": 50.0 / step, "stderr": 0.1, "n": 4}
            better = {"higher_is_better": False, "model": "base", "evaluator": "perplexity"}
            yield {"event": "score", **common, **score, **better}


_EVENTS = tuple(_events())
