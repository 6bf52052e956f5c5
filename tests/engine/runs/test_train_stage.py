"""A train stage does what its fields say."""

from __future__ import annotations

import json
import shutil

import pytest
import torch
from engine_parallel.replicated import Replicated

from engine.errors import EngineError, RunError
from engine.runs import automatic as choices, train_stage as training
from engine.storage.manifest import sealed, unsealed


@pytest.fixture
def train(tiny_spec):
    """The train stage's part of the tiny spec."""
    return tiny_spec["stages"]["base"]["train"]


@pytest.fixture
def setups(monkeypatch):
    """What strategies are asked to prepare; they do so as always."""
    seen = []
    prepare = Replicated.prepare

    def spy(self, setup):
        seen.append(setup)
        prepare(self, setup)

    monkeypatch.setattr(Replicated, "prepare", spy)
    return seen


@pytest.mark.covers("Train.data", "Train.model", "Train.objective", "Train.optimizer", "Spec.seed")
def test_the_same_spec_gives_the_same_loss_to_the_last_bit(tiny_spec, train, run_here):
    """And another seed, model or optimizer another one."""
    first = run_here(tiny_spec, runs="a").steps("loss")
    assert run_here(tiny_spec, runs="b").steps("loss") == first
    tiny_spec["seed"] = 6
    assert run_here(tiny_spec, runs="c").steps("loss") != first
    tiny_spec["seed"] = 5
    train["optimizer"]["type"] = "muon"
    assert run_here(tiny_spec, runs="d").steps("loss") != first
    train["model"]["layers"] = 1
    run = run_here(tiny_spec, runs="e")
    assert not any("layers.1" in name for name in run.weights())


def test_golden_losses(tiny_spec, train, run_here):
    """Whoever changes these numbers changes what everybody's runs compute.

    Float32 on one thread; 1e-3 leaves room for other processors' summation orders.
    """
    train |= {"precision": "fp32", "budget": "24 steps"}
    train["optimizer"]["lr"] = 2e-2
    assert run_here(tiny_spec).steps("loss")[::4] == pytest.approx(GOLDEN, rel=1e-3)


GOLDEN = [5.75332, 3.84778, 2.89884, 3.08161, 2.93135, 3.03679]


@pytest.mark.covers(
    "Train.precision", "Train.ema", "Train.compile", "Train.activation_checkpointing",
    "Train.offload_activations",
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at it
def test_the_strategy_is_told_how_to_compute(tiny_spec, train, run_here, setups, monkeypatch):
    """What each of these does to the numbers, the strategy's own tests show."""
    monkeypatch.setattr("engine_parallel.replicated.compile_layers", lambda model: None)
    run_here(tiny_spec, runs="a")
    train |= {"precision": "fp16", "ema": 0.5, "compile": True}
    train |= {"activation_checkpointing": "selective", "offload_activations": True}
    run_here(tiny_spec, runs="b")
    plain, told = setups
    assert (plain.precision, plain.ema, plain.compile) == ("fp32", None, False)
    assert (told.precision, told.ema, told.compile) == ("fp16", 0.5, True)
    assert (plain.activation_checkpointing, told.activation_checkpointing) == (False, "selective")
    assert (plain.offload_activations, told.offload_activations) == (False, True)


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # dynamo looks at it
def test_long_training_is_compiled_where_rows_are_alike(
    tiny_spec, train, run_here, setups, monkeypatch, tmp_path
):
    """Rows of other lengths than the sequence run eagerly; who asks for more is told."""
    monkeypatch.setattr(choices, "_COMPILE_ABOVE_FLOPS", {"cpu": 1.0})
    monkeypatch.setattr("engine_parallel.replicated.compile_layers", lambda model: None)
    row = json.dumps({"prompt": "one", "completion": "two"})
    (tmp_path / "rows.jsonl").write_text(f"{row}\n" * 8, encoding="utf-8")
    train |= {"budget": "1 steps", "batch": {"examples": 8}, "evaluate": []}
    tuned = {
        **train,
        "data": {"type": "files", "paths": [f"{tmp_path}/rows.jsonl"], "records": "completion"},
        "model": "base",
        "objective": {"type": "sft", "packing": False},
    }
    tiny_spec["stages"] |= {"auto": {"train": tuned}, "told": {"train": {**tuned, "compile": True}}}
    run = run_here(tiny_spec)
    assert [setup.compile for setup in setups] == [True, False, False]
    (warning,) = [e for e in run.events("warning") if e["message"].startswith("compile: ")]
    assert warning["stage"] == "told"


@pytest.mark.covers("Train.budget")
@pytest.mark.parametrize(
    ("budget", "steps"), [("5 steps", 5), ("1000 tokens", 4), ("0.5 epochs", None)]
)
def test_a_budget_counts_in_steps_tokens_or_epochs(tiny_spec, train, run_here, budget, steps):
    """Training ends with the first step that reaches it."""
    train["budget"] = budget
    run = run_here(tiny_spec)
    rows = run.events("training")[0]["rows"]
    expected = steps or -(-rows // 2 // 8)  # eight rows of 32 tokens are a batch
    assert len(run.steps("step")) == expected


def test_a_budget_of_time_ends(tiny_spec, train, run_here):
    """After so many seconds of steps, and not at the first."""
    train["budget"] = "1s"
    assert sum(1 for _ in run_here(tiny_spec).steps("step")) > 5


@pytest.mark.covers("Train.clip")
def test_clipping_bounds_the_update(tiny_spec, train, run_here):
    """With plain momentum-free steps the same gradients move the weights less."""
    train |= {"budget": "1 steps", "precision": "fp32"}
    train["optimizer"] |= {
        "eps": 1.0,
        "lr": 1.0,
        "weight_decay": 0,
    }  # all but linear in the gradient
    start = run_here(_untrained(tiny_spec), runs="start").weights()
    train["clip"] = None
    free = _moved(start, run_here(tiny_spec, runs="free").weights())
    train["clip"] = 0.01
    held = _moved(start, run_here(tiny_spec, runs="held").weights())
    assert held < 0.1 * free


@pytest.mark.covers("Train.freeze")
def test_frozen_parameters_do_not_move(tiny_spec, train, run_here):
    """By glob; all others do."""
    start = run_here(_untrained(tiny_spec), runs="start").weights()
    train["freeze"] = ["model.layers.0.*"]
    weights = run_here(tiny_spec, runs="frozen").weights()
    moved = {name for name in weights if not torch.equal(weights[name], start[name])}
    frozen = {name for name in weights if name.startswith("model.layers.0.")}
    assert moved == weights.keys() - frozen
    train["freeze"] = ["model.layer.*"]
    with pytest.raises(RunError, match=r"no parameter matches 'model\.layer"):
        run_here(tiny_spec, runs="wrong")
    train["freeze"] = ["*"]
    with pytest.raises(RunError, match="no parameter is left to train"):
        run_here(tiny_spec, runs="all")


@pytest.mark.covers(
    "Train.batch", "BatchSize.tokens", "BatchSize.sequence", "BatchSize.micro_tokens"
)
def test_batches_have_the_size_asked_for(tiny_spec, train, run_here, monkeypatch):
    """Rows of `sequence` tokens, in pieces of `micro_tokens`, `tokens` in all."""
    seen = []
    forward_backward = Replicated.forward_backward

    def spy(self, micro_batches, counts):
        seen.append([tuple(b.inputs["input_ids"].shape) for b in micro_batches])
        return forward_backward(self, micro_batches, counts)

    monkeypatch.setattr(Replicated, "forward_backward", spy)
    train["batch"] = {"tokens": 192, "sequence": 16, "micro_tokens": 80}
    run = run_here(tiny_spec)
    assert seen[0] == [(5, 16), (5, 16), (2, 16)]
    assert run.steps("tokens")[:2] == [192, 384]


def test_every_rank_has_as_many_rows(tiny_spec, train, run_here, monkeypatch):
    """Seven rows on two ranks are three on each: a rank with one more would wait for the other."""
    seen = []
    forward_backward = Replicated.forward_backward

    def spy(self, micro_batches, counts):
        seen.append([len(b.inputs["input_ids"]) for b in micro_batches])
        return forward_backward(self, micro_batches, counts)

    monkeypatch.setattr(Replicated, "forward_backward", spy)
    monkeypatch.setattr(Replicated, "all_sum", lambda self, values: dict(values))
    monkeypatch.setattr(Replicated, "_sum_over_ranks", lambda self: None)
    for rank in (0, 1):  # each by itself
        build = Replicated.__init__

        def two(self, context, bucket_mb=25.0, build=build, rank=rank):
            build(self, context, bucket_mb)
            self.data_rank, self.data_size = rank, 2

        monkeypatch.setattr(Replicated, "__init__", two)
        train["batch"] = {"tokens": 7 * 32, "micro_tokens": 64}
        run_here(tiny_spec, runs=str(rank))
        assert seen.pop() == [2, 1]


@pytest.mark.covers("BatchSize.ramp", "Ramp.every", "Ramp.factor", "Ramp.most")
def test_the_batch_grows_as_its_formula_says(tiny_spec, train, run_here):
    """base · factor^⌊t / every⌋, capped; schedule and budget read the same tokens."""
    train["batch"] = {"tokens": 64, "ramp": {"every": "256 tokens", "factor": 3, "most": 320}}
    train["budget"] = "2k tokens"
    run = run_here(tiny_spec)
    total, expected = 0, []
    while total < 2000:
        total += min(64 * 3 ** (total // 256), 320)
        expected.append(total)
    assert run.steps("tokens") == expected


@pytest.mark.covers("Train.checkpoint", "Checkpoints.every", "Checkpoints.keep")
def test_checkpoints_come_and_go_as_asked(tiny_spec, train, run_here):
    """Every so often, the last few kept."""
    train |= {"checkpoint": {"every": "2 steps", "keep": 3}, "evaluate": [], "budget": "9 steps"}
    run = run_here(tiny_spec)
    assert [e["step"] for e in run.events("checkpoint")] == [0, 2, 4, 6, 8, 9]
    kept = sorted(p.name for p in (run.folder / "base" / "checkpoints").iterdir())
    assert kept == ["step-000000006", "step-000000008", "step-000000009"]


@pytest.mark.covers("Checkpoints.background")
@pytest.mark.parametrize("background", [True, False])
def test_checkpoints_are_written_beside_training_if_asked(
    tiny_spec, train, run_here, monkeypatch, background
):
    """On a thread of their own, or on training's."""
    import threading

    from engine.storage.checkpoints import Checkpoints

    writers = set()
    write = Checkpoints._write

    def spy(self, *arguments):
        writers.add(threading.current_thread() is threading.main_thread())
        return write(self, *arguments)

    monkeypatch.setattr(Checkpoints, "_write", spy)
    train["checkpoint"] = {"background": background}
    run_here(tiny_spec)
    assert writers == {not background}


@pytest.mark.covers("Train.evaluate")
def test_the_best_scored_checkpoint_is_kept(tiny_spec, train, run_here):
    """Among those saved where a score was taken; a rate far too high makes the first the best."""
    train |= {"checkpoint": {"every": "2 steps", "keep": 1}, "budget": "8 steps"}
    train["evaluate"] = [{"type": "perplexity", "every": "2 steps", "limit": 2}]
    train["optimizer"] |= {"lr": 3.0}
    run = run_here(tiny_spec)
    scores = [e for e in run.events("score") if e["metric"] == "perplexity"]
    best = min(scores, key=lambda e: e["value"])["step"]
    kept = sorted(p.name for p in (run.folder / "base" / "checkpoints").iterdir())
    assert kept == sorted({f"step-{best:09d}", "step-000000008"})


@pytest.mark.covers("Train.callbacks")
def test_a_callback_may_end_the_stage(tiny_spec, train, run_here):
    """As done: a later run of the same spec does not go on, one with more budget does."""
    train |= {"budget": "40 steps"}
    train["evaluate"] = [{"type": "perplexity", "every": "2 steps", "limit": 2}]
    stop = {"type": "early-stop", "metric": "perplexity", "patience": 1, "min_delta": 1e9}
    train["callbacks"] = [stop]
    run = run_here(tiny_spec)
    ended = len(run.steps("step"))
    assert ended < 40
    assert run.events("ended_early")
    stage = run.folder / "base" / "stage.json"
    standing = unsealed(stage.read_text(encoding="utf-8"))
    assert standing["status"] == "done"
    # Killed between the end of training and the stage's record, the run does not train again.
    stage.write_text(sealed({**standing, "status": "begun", "summary": {}}), encoding="utf-8")
    assert len(run_here(tiny_spec).steps("step")) == ended
    train |= {"callbacks": [], "budget": "41 steps"}
    assert run_here(tiny_spec).steps("step")[-1] == 41


def test_callbacks_that_have_started_are_told_the_end(tiny_spec, train, run_here, monkeypatch):
    """Also where a later one cannot start, and in the opposite order."""
    from engine_callbacks.early_stop import EarlyStopCallback
    from engine_callbacks.spike_guard import SpikeGuardCallback

    told = []
    monkeypatch.setattr(SpikeGuardCallback, "stage_finished", lambda self: told.append("guard"))
    monkeypatch.setattr(EarlyStopCallback, "stage_finished", lambda self: told.append("stop"))
    # No evaluator has an interval, so early-stop refuses to start.
    train["callbacks"] = ["spike-guard", {"type": "early-stop", "metric": "perplexity"}]
    with pytest.raises(RunError, match="no evaluator has an interval"):
        run_here(tiny_spec)
    assert told == ["guard"]
    train["evaluate"] = [{"type": "perplexity", "every": "5 steps"}]
    run_here(tiny_spec)
    assert told == ["guard", "stop", "guard"]


def test_more_budget_goes_on_and_says_what_the_schedule_does(tiny_spec, train, run_here):
    """The weights go on from where they were; a schedule tied to the budget jumps, and says so."""
    train["optimizer"]["schedule"] = {"type": "warmup-cosine"}
    first = run_here(tiny_spec)
    assert not first.events("warning")
    train["budget"] = "12 steps"
    run = run_here(tiny_spec)
    assert run.steps("step") == list(range(1, 13))
    (warning,) = run.events("warning")
    assert "the budget was 6 steps and is 12 steps" in warning["message"]


def test_source_weights_may_change_in_mid_run(tiny_spec, train, texts, run_here):
    """A runtime field: the order before stays, a segment records the change."""
    sources = [
        {"type": "files", "paths": [f"{texts}/[0-2]*.txt"], "weight": 0.5},
        {"type": "files", "paths": [f"{texts}/[3-5]*.txt"], "weight": 0.5},
    ]
    tiny_spec["stages"]["corpus"]["prepare"]["sources"] = sources
    run_here(tiny_spec)
    sources[0]["weight"] = 0.1
    train["budget"] = "30 steps"
    run = run_here(tiny_spec)
    assert run.steps("step") == list(range(1, 31))
    latest = sorted((run.folder / "base" / "checkpoints").iterdir())[-1]
    kept = json.loads((latest / "state.json").read_text(encoding="utf-8"))["data"]
    ((changed_at, before),) = kept["earlier"]
    assert changed_at >= 48  # rows of the six steps; the change waits for the end of a block
    assert [source[2] for source in before] == [0.5, 0.5]
    assert [source[2] for source in kept["sources"]] == [0.1, 0.5]


def test_another_version_is_refused_unless_allowed(tiny_spec, train, run_here, monkeypatch):
    """Weaker resumes are asked for by name."""

    run_here(tiny_spec)
    train["budget"] = "8 steps"
    real = training.metadata.version
    monkeypatch.setattr(training.metadata, "version", lambda n: "99.0" if n == "torch" else real(n))
    with pytest.raises(
        RunError, match=r"written with torch 2\.\d+.*but torch 99.0 is installed.*--allow"
    ):
        run_here(tiny_spec)
    assert run_here(tiny_spec, inexact=True).steps("step")[-1] == 8


def test_a_tokenizer_that_is_not_the_model_s_is_refused(tiny_spec, train, run_here):
    """Model and tokenizer travel together."""
    tiny_spec["stages"]["other"] = {
        "prepare": {
            **tiny_spec["stages"]["corpus"]["prepare"],
            "tokenizer": {"type": "bpe", "vocab_size": 290},
        }
    }
    tiny_spec["stages"]["more"] = {"train": {**train, "model": "base", "data": "other"}}
    with pytest.raises(RunError, match="another vocabulary than 'base' uses"):
        run_here(tiny_spec)


@pytest.mark.parametrize("tokenizer", ["another", "none"])
def test_a_folder_s_tokenizer_is_the_data_s(
    tokenizer, tiny_spec, train, run_here, finished_run, tmp_path
):
    """Else a checkpoint would be trained on ids that mean other tokens, without a word."""
    folder = tmp_path / f"model-{tokenizer}"
    shutil.copytree(finished_run / "base" / "final", folder)
    if tokenizer == "none":
        for file in folder.glob("tokenizer*"):
            file.unlink()
    else:
        tiny_spec["stages"]["corpus"]["prepare"]["tokenizer"] = {"type": "bpe", "vocab_size": 290}
    train["model"] = {"type": "pretrained", "path": str(folder)}
    with pytest.raises(EngineError, match=r"another vocabulary than '/|has no tokenizer \(no "):
        run_here(tiny_spec)


def test_data_may_have_more_tokens_than_a_model_from_elsewhere(
    tiny_spec, train, run_here, finished_run, tmp_path
):
    """Those that it knows have the same ids; its embeddings grow by the others."""
    from transformers import AutoTokenizer

    final = finished_run / "base" / "final"
    more = AutoTokenizer.from_pretrained(final)
    more.add_tokens([f"<new {i}>" for i in range(30)])
    more.save_pretrained(tmp_path / "more")
    path = str(tmp_path / "more")
    tiny_spec["stages"]["corpus"]["prepare"]["tokenizer"] = {"type": "pretrained", "path": path}
    train |= {"model": {"type": "pretrained", "path": str(final)}, "budget": "1 steps"}
    train["evaluate"] = []
    assert len(run_here(tiny_spec).weights()["model.embed_tokens.weight"]) >= len(more)


def _untrained(spec: dict) -> dict:
    import copy

    spec = copy.deepcopy(spec)
    spec["stages"]["base"]["train"]["optimizer"] |= {"lr": 1e-12, "weight_decay": 0}
    spec["stages"]["base"]["train"] |= {"budget": "1 steps", "precision": "fp32"}
    return spec


def _moved(a: dict, b: dict) -> float:
    return sum(float((a[name] - b[name]).pow(2).sum()) for name in a) ** 0.5
