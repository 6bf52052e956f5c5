"""Strategy `auto`: of what fits, the layout that sends and waits least."""

from __future__ import annotations

import json

import pytest
from engine_parallel.replicated import Replicated
from engine_plan import auto
from engine_plan.forecast import forecast, plain
from engine_plan.machine import Machine

from engine import RunError, load_spec
from engine.testing import StandAloneContext

MODEL = {"type": "llama", "hidden_size": 512, "layers": 8, "heads": 8, "context": 512}
LLAMA_7B = {
    "type": "llama",
    "hidden_size": 4096,
    "layers": 32,
    "heads": 32,
    "intermediate_size": 11008,
    "context": 4096,
    "tie_embeddings": False,
}


@pytest.fixture
def train(tiny_spec):
    """The body of the train stage, on which `auto` decides."""
    train = tiny_spec["stages"]["base"]["train"]
    return train.update(model=MODEL, strategy="auto", batch={"tokens": "16k"}) or train


@pytest.fixture
def chosen(tiny_spec, write_spec):
    """What it decides for so many processes of so many bytes, and why."""

    def chosen(processes: int, memory: float, device: str = "cpu"):
        loaded = load_spec(write_spec(tiny_spec), processes=processes)
        machine = Machine(device, "", memory, processes, 1e12)
        found = forecast(loaded.situation(processes), "base", machine)
        assert found.fits == (found.chosen.estimate.memory.total <= memory)
        return plain(found.chosen.config), found.chosen.why

    return chosen


def test_where_everything_fits_gradients_are_all_that_is_sent(train, chosen):
    """One process alone, several with copies."""
    assert chosen(1, 1e12) == ({"type": "single"}, "the only one that fits")
    fields, why = chosen(4, 1e12)
    assert fields == {"type": "ddp"}
    assert why.startswith("least traffic and waiting of ")


def test_less_memory_is_made_up_for_by_traffic(train, chosen):
    """From copies to shards of everything; and what needs whole matrices is never split."""
    train |= {"model": LLAMA_7B, "batch": {"tokens": "4M"}, "precision": "bf16"}
    assert chosen(256, 300e9, "cuda")[0] == {"type": "ddp"}
    assert chosen(256, 80e9, "cuda")[0] == {"type": "mesh", "shard": 4}
    assert chosen(256, 70e9, "cuda")[0] == {"type": "mesh", "shard": 8}
    train["optimizer"] = "muon"
    assert chosen(256, 80e9, "cuda")[0]["type"] == "mesh"
    assert chosen(256, 80e9, "cuda")[0].keys() == {"type", "pipeline"}


def test_a_penalty_leaves_the_layouts_that_it_can_be_computed_with(train, chosen):
    """Four processes need the least memory where they share matrices, which this penalty excludes."""
    assert chosen(4, 1)[0] == {"type": "mesh", "tensor": 4}
    train["penalties"] = ["distance-to-start"]
    assert chosen(4, 1)[0] == {"type": "mesh", "shard": 4}


def test_degrees_that_the_model_allows(train, chosen):
    """Nothing is chosen that a spec could not say: three processes share no eight heads."""
    least, why = chosen(3, 1)
    assert why.endswith("layouts fits, and this one needs the least memory")
    assert "tensor" not in least
    assert "none of " in why


def test_a_model_of_unknown_size_is_whole_on_every_process(train, tiny_spec, write_spec):
    """So is what is built outside a stage."""
    context = StandAloneContext()
    assert isinstance(context.build("strategy", {"type": "auto"}), Replicated)
    two = StandAloneContext(rank=1, world_size=2)
    built = auto.build(context.config("strategy", {"type": "auto"}), two)
    assert (built.data_rank, built.data_size) == (1, 2)
    train["model"] = {"type": "pretrained", "path": "someone/model", "revision": "0" * 40}
    loaded = load_spec(write_spec(tiny_spec), processes=2)
    assert forecast(loaded.situation(2), "base", Machine("cpu", "", 1)) is None


def test_two_processes_train_with_what_was_chosen(tiny_spec, write_spec, engine, tmp_path):
    """One line says what it is and why; both go on to the end."""
    tiny_spec["stages"]["base"]["train"] |= {"strategy": "auto", "evaluate": []}
    told = engine("run", write_spec(tiny_spec), "--nproc", 2, "--runs", tmp_path)
    lines = (tmp_path / "tiny" / "events.jsonl").read_text(encoding="utf-8").splitlines()
    events = [json.loads(line) for line in lines]
    (chosen,) = [e for e in events if e["event"] == "strategy_chosen"]
    assert chosen["strategy"] == {"type": "ddp"}
    assert f"strategy ddp: {chosen['why']}" in " ".join(told.stderr.split())
    assert [e["step"] for e in events if e["event"] == "step"] == [1, 2, 3, 4, 5, 6]


def test_without_a_strategy_that_copies_the_model_it_says_so(monkeypatch):
    """As where `--no-plugin` blocks the plugin that brings one."""
    context = StandAloneContext()
    config = context.config("strategy", {"type": "auto"})
    monkeypatch.setattr(StandAloneContext, "configs", lambda self, kind: {})
    with pytest.raises(RunError, match="no installed strategy puts the whole model"):
        auto.build(config, context)
