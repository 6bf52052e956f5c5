"""Adapters `lora` and `dora`: their own fields, what is trained, and that nothing of them is left."""

from __future__ import annotations

import pytest
import torch
from engine_sft.adapters import linear_layers

from engine.testing import check_component

KINDS = pytest.mark.parametrize("kind", ["lora", "dora"])


@KINDS
@pytest.mark.parametrize("fields", [{}, {"r": 3, "dropout": 0.1, "targets": ["*.mlp.*"]}])
def test_contract(kind, fields):
    """Merged, it is the plain model and computes the same."""
    check_component("adapter", {"type": kind, **fields})


@pytest.fixture
def attached(bench):
    """A tiny model with an adapter, and its trained parameters by name."""

    def attach(kind, **fields):
        torch.manual_seed(1)
        adapter = bench.context.build("adapter", {"type": kind, **fields})
        model = adapter.attach(bench.model())
        return model, {n: p for n, p in model.named_parameters() if p.requires_grad}

    return attach


@KINDS
@pytest.mark.covers(
    "adapter/lora.r", "adapter/dora.r", "adapter/lora.targets", "adapter/dora.targets"
)
def test_rank_and_targets_are_what_is_trained(attached, kind):
    """Of every layer that is meant, two matrices of that rank; of DoRA a length for each row, too."""
    _, every = attached(kind, r=5)
    per_layer = 3 if kind == "dora" else 2
    assert len(every) == per_layer * 14  # seven linear layers in each of two
    assert not [name for name in every if "lm_head" in name]
    some = attached(kind, r=5, targets=["*q_proj", "*.0.mlp.*"])[1]
    assert len(some) == per_layer * (2 + 3)
    matrices = {n: p for n, p in some.items() if "magnitude" not in n}
    assert {min(p.shape) for p in matrices.values()} == {5}


@KINDS
@pytest.mark.covers("adapter/lora.alpha", "adapter/dora.alpha")
def test_alpha_scales_the_addition(attached, bench, kind):
    """W + (alpha / r) · B · A, of DoRA with every row brought to its length."""
    for alpha in (4.0, 12.0):
        model, trained = attached(kind, r=4, alpha=alpha, targets=["*.0.self_attn.q_proj"])
        base = bench.model().model.layers[0].self_attn.q_proj.weight
        with torch.no_grad():
            for name, parameter in trained.items():
                if "lora_B" in name:
                    parameter.normal_(generator=torch.Generator().manual_seed(2))
        b, a = (next(p for n, p in trained.items() if key in n) for key in ("lora_B", "lora_A"))
        wanted = base + alpha / 4 * b @ a
        if kind == "dora":
            wanted *= (base.norm(dim=1) / wanted.norm(dim=1))[:, None]
        adapter = bench.context.build("adapter", {"type": kind})
        with torch.no_grad():
            merged = adapter.merge(model).model.layers[0].self_attn.q_proj.weight
        torch.testing.assert_close(merged, wanted.detach(), rtol=1e-5, atol=1e-6)


@KINDS
@pytest.mark.covers("adapter/lora.dropout", "adapter/dora.dropout")
def test_dropout_is_of_training(attached, kind):
    """Two passes differ in training, and only there."""
    ids = torch.arange(8)[None]
    for dropout in (0.0, 0.5):
        model, trained = attached(kind, dropout=dropout)
        with torch.no_grad():
            for parameter in trained.values():
                parameter.add_(0.3)
            passes = [
                [model.train(training)(input_ids=ids).logits for _ in range(2)]
                for training in (True, False)
            ]
        assert torch.equal(*passes[0]) == (dropout == 0)
        assert torch.equal(*passes[1])


@KINDS
def test_targets_that_mean_nothing_are_told(attached, kind):
    """With names that there are."""
    from engine import SpecError

    with pytest.raises(
        SpecError, match=r"no linear layer matches \*\.query; names are: model\.lay"
    ):
        attached(kind, targets=["*.query"])


def test_layers_of_gpt2_are_linear_too(bench):
    """Its matrices are transposed, and of another class."""
    model = bench.context.build(
        "model",
        {
            "type": "causal-lm",
            "architecture": "gpt2",
            "config": {"n_embd": 16, "n_layer": 1, "n_head": 2},
        },
    )
    names = [name.rpartition("h.0.")[2] for name in linear_layers(model)]
    assert names == ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    adapter = bench.context.build("adapter", {"type": "lora", "r": 2})
    ids = torch.arange(6)[None]
    model = adapter.attach(model.eval())
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
        before = model(input_ids=ids).logits
        after = adapter.merge(model)(input_ids=ids).logits
    torch.testing.assert_close(before, after, rtol=1e-4, atol=1e-4)


@KINDS
def test_a_run_leaves_a_plain_model(stage, run_here, sums, kind):
    """Scored before it is merged as after it, opened by transformers alone, the rest untouched."""
    model = {"type": "stage", "stage": "base", "adapter": {"type": kind, "targets": ["*q_proj"]}}
    spec = stage(
        sums,
        model=model,
        holdout=0.2,
        budget="12 steps",
        optimizer={"type": "adamw", "lr": 3e-2},
        evaluate=["answer-perplexity"],
    )
    spec["stages"]["scores"] = {
        "evaluate": {"models": ["tuned"], "data": "tuned", "evaluators": ["answer-perplexity"]}
    }
    run = run_here(spec)
    before, tuned = run.weights("base"), run.weights("tuned")
    assert before.keys() == tuned.keys()
    moved = {name for name in before if not torch.equal(before[name], tuned[name])}
    assert moved == {f"model.layers.{i}.self_attn.q_proj.weight" for i in range(2)}
    unmerged, _, merged, _ = (e["value"] for e in run.events("score"))
    assert merged == pytest.approx(unmerged, rel=1e-4)
    assert run.steps("loss")[-1] < run.steps("loss")[2]


@pytest.mark.covers("model/pretrained.adapter", "model/stage.adapter")
def test_any_model_that_is_there_can_be_adapted(stage, run_here, sums, finished_run):
    """A stage's or one in a folder: the same steps."""
    runs = {}
    adapter = {"type": "lora", "r": 2}
    folder = {"type": "pretrained", "path": str(finished_run / "base" / "final")}
    for model in ({"type": "stage", "stage": "base"}, folder, {**folder, "adapter": adapter}):
        name = model["type"] + ("-adapted" if "adapter" in model else "")
        spec = stage(sums, model=model, batch={"tokens": 256, "sequence": 32})
        spec["stages"]["base"]["train"] |= {"budget": "6 steps"}
        spec["stages"]["base"]["train"]["model"]["context"] = 32
        runs[name] = run_here(spec, runs=name)
    plain, adapted = runs["pretrained"], runs["pretrained-adapted"]
    assert plain.steps("loss")[-4] == pytest.approx(adapted.steps("loss")[-4], rel=1e-6)
    assert plain.steps("loss")[-1] != adapted.steps("loss")[-1]
    parameters = [r.events("training")[-1]["parameters"] for r in (plain, adapted)]
    assert parameters[1] > parameters[0]
    assert plain.weights("tuned").keys() == adapted.weights("tuned").keys()
    embedding = "model.embed_tokens.weight"
    assert torch.equal(
        adapted.weights("tuned")[embedding],
        _opened(finished_run / "base" / "final")[embedding],
    )


def test_layers_with_an_adapter_are_not_cut(stage, write_spec, engine, sums):
    """Tensor parallelism cuts plain ones; the spec is told."""
    model = {"type": "stage", "stage": "base", "adapter": "lora"}
    spec = stage(sums, model=model, strategy={"type": "mesh", "tensor": 2})
    told = engine("validate", write_spec(spec), "--nproc", 2, status=2).stderr
    assert "tensor 2 cannot split layers with an adapter; use data or shard" in " ".join(
        told.split()
    )


def _opened(folder):
    from safetensors.torch import load_file

    return load_file(folder / "model.safetensors")
