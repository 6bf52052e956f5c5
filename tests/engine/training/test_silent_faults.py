"""A flipped bit is found, and the rank named."""

from __future__ import annotations

import os
from types import SimpleNamespace

import pytest
import torch
from support.runs import events

from engine.contracts.batch import Batch
from engine.training.silent_faults import _digests, find_fault


class _Ranks:
    """Several ranks in this process, one after another: what each gathers comes from the last call."""

    def __init__(self, states):
        self._states = states
        self.rank = 0

    def gather(self, value):
        return [dict(_digests(state)) for state in self._states]

    def broadcast(self, value):
        return value


def _state(seed=0):
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(5, 3, generator=generator)
    return {"model": {"w": weight}, "optimizer": {"w": {"exp_avg": weight * 2, "step": 3}}}


def _found(*states):
    return find_fault(SimpleNamespace(state=lambda: states[0]), [], _Ranks(states))


def test_copies_that_are_the_same_are_no_fault():
    """Bit by bit."""
    assert _found(_state(), _state(), _state()) is None


@pytest.mark.parametrize("bit", [0, 7, 30])
def test_a_flipped_bit_names_rank_and_tensor(bit):
    """Whichever bit it is, even the last of the mantissa."""
    broken = _state()
    flat = broken["optimizer"]["w"]["exp_avg"].view(torch.int32)
    flat[4, 1] ^= 1 << bit
    assert _found(_state(), _state(), broken) == "optimizer/w/exp_avg: rank 2 differs"
    assert _found(broken, _state()) == "optimizer/w/exp_avg: ranks 0 and 1 differ"


def test_many_differences_are_cut_short():
    """Three are named."""
    state = {"model": {str(n): torch.zeros(2) for n in range(9)}}
    broken = {"model": {str(n): torch.ones(2) for n in range(9)}}
    told = _found(state, broken, state)
    assert told.count("rank 1 differs") == 3
    assert told.endswith("and 6 more")


def test_without_copies_a_micro_batch_is_computed_twice():
    """Alike, or else the rank is named."""
    sums = iter([1.0, 1.0, 1.0, 1.0 + 2**-23])
    strategy = SimpleNamespace(
        state=lambda: {"w": torch.zeros(2)},
        forward_backward=lambda batches, counts: {"loss": torch.tensor(next(sums))},
    )
    alone = SimpleNamespace(rank=0, gather=lambda value: [value], broadcast=lambda value: value)
    probe = [Batch({}, {}, {"loss": 1}, 1)]
    assert find_fault(strategy, probe, alone) is None
    told = find_fault(strategy, probe, alone)
    assert told == "rank 0 computed one micro-batch twice, with different results"


def test_counters_alone_are_no_copies():
    """Shards are all different, and only the number of steps is the same on both ranks."""
    states = [{"w": {str(rank): torch.ones(2), "step": torch.tensor(3.0)}} for rank in range(2)]
    sums = iter([1.0, 2.0])
    strategy = SimpleNamespace(
        state=lambda: states[0],
        forward_backward=lambda batches, counts: {"loss": torch.tensor(next(sums))},
    )
    ranks = _Ranks(states)
    told = [dict(_digests(state)) for state in states]
    answers = iter([told, [False, True]])
    ranks.gather = lambda value: next(answers)
    probe = [Batch({}, {}, {"loss": 1}, 1)]
    wrong = find_fault(strategy, probe, ranks)
    assert wrong == "rank 1 computed one micro-batch twice, with different results"


FAULTY = {
    "engine_faulty/__init__.py": "",
    "engine_faulty/plugin.py": """
from engine import Component, hookimpl

@hookimpl
def engine_optimizers():
    return [Component("faulty", "engine_faulty.sgd:Faulty", "engine_faulty.sgd:build",
                      "Flips a bit on rank 1, in the first start only.")]
""",
    "engine_faulty/sgd.py": """
import os
import torch
from engine import OptimizerConfig

class Faulty(OptimizerConfig):
    pass

class FaultySGD(torch.optim.SGD):
    taken = 0

    def step(self):
        super().step()
        self.taken += 1
        first = os.environ.get("TORCHELASTIC_RESTART_COUNT") == "0"
        if first and self.taken == 6 and os.environ["RANK"] == "1":
            self.param_groups[0]["params"][0].data.view(torch.int32)[3, 3] ^= 1

def build(config, context):
    return lambda named: FaultySGD([tensor for _, tensor in named], lr=config.lr)
""",
}


@pytest.mark.covers("Train.check_replicas")
def test_a_run_with_a_fault_goes_on_from_before_it(
    tiny_spec, write_spec, engine, install_here, prepared, tmp_path
):
    """Found at the next check and named; all start anew, from a checkpoint without the fault."""
    install_here(FAULTY)
    tiny_spec["plugins"] = ["faulty"]
    train = tiny_spec["stages"]["base"]["train"]
    train |= {"optimizer": {"type": "faulty", "lr": 0.1}, "evaluate": [], "budget": "9 steps"}
    train |= {"strategy": "ddp", "check_replicas": "4 steps", "checkpoint": {"every": "2 steps"}}
    env = {
        "PYTHONPATH": os.pathsep.join([str(tmp_path / "site"), os.environ.get("PYTHONPATH", "")])
    }
    run = prepared(tmp_path / "runs")
    arguments = ("--nproc", 2, "--restarts", 1, "--runs", run.parent)
    told = engine("run", write_spec(tiny_spec), *arguments, env=env).stderr
    assert "silent fault at step 8 (none at 4)" in told
    assert "model/model.embed_tokens.weight: ranks 0 and 1 differ" in told
    (resumed,) = events(run, "resumed")
    assert resumed["step"] == 4
