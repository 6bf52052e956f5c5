"""What learns is float32, whatever type a file holds its weights in."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from engine_lm.config import Pretrained
from engine_lm.models import build_pretrained
from engine_lm.trials.tiny_config import tiny_config
from safetensors.torch import load_file, save_file
from torch import nn

from engine import SpecError
from engine.modeling.weight_types import for_scoring, for_training


@pytest.fixture(scope="module")
def narrow(finished_run, tmp_path_factory):
    """The tiny model as a bf16 checkpoint of somebody else's."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = tmp_path_factory.mktemp("narrow") / "model"
    final = finished_run / "base" / "final"
    AutoModelForCausalLM.from_pretrained(final).bfloat16().save_pretrained(folder)
    AutoTokenizer.from_pretrained(final).save_pretrained(folder)
    return folder


def _weights(file):
    return load_file(file / "model.safetensors")


PREFERENCES = '{"prompt": "the cat ", "chosen": "sat on a mat", "rejected": "ran under a chair"}\n'


@pytest.mark.parametrize(
    ("objective", "adapter"), [("next-token", None), ("next-token", "lora"), ("reward", None)]
)
def test_a_small_rate_moves_nearly_every_weight_of_a_narrow_checkpoint(
    objective, adapter, narrow, tiny_spec, run_here, tmp_path, texts
):
    """At 1e-5 an update is below the rounding of most bf16 weights: of such masters 3 % moved.

    What has no gradient, such as rows of tokens that never occur, leaves some where they were.
    """
    train = tiny_spec["stages"]["base"]["train"]
    (tmp_path / "pairs.jsonl").write_text(PREFERENCES * 8)
    pairs = {"type": "files", "paths": [str(tmp_path / "pairs.jsonl")], "records": "preference"}
    text = {"type": "files", "paths": [f"{texts}/*.txt"]}
    model = {"type": "pretrained", "path": str(narrow)}
    tiny_spec["stages"] = {
        "ft": {
            "train": {
                **train,
                "data": pairs if objective == "reward" else text,
                "model": {**model, "adapter": {"type": adapter}} if adapter else model,
                "objective": {"type": objective},
                "optimizer": {"type": "adamw", "lr": 1e-5, "weight_decay": 0.0},
                "batch": {"examples": 8},
                "budget": "2 steps",
                "precision": "fp32",
                "evaluate": [],
            }
        }
    }
    before, after = _weights(narrow), run_here(tiny_spec).weights("ft")
    _nearly_all_moved(before, after)


def _nearly_all_moved(before, after):
    layers = [name for name in before if "proj" in name]
    assert {weight.dtype for weight in after.values()} == {torch.float32}
    moved = sum(int((before[n].float() != after[n]).sum()) for n in layers)
    assert moved > 0.9 * sum(before[n].numel() for n in layers)


def test_it_moves_them_under_strategies_that_share_weights_too(
    narrow, tiny_spec, write_spec, engine_ranks, tmp_path
):
    """Two ranks, which compute in bf16: it is the masters that are float32."""
    ranked = [
        {"type": "mesh", "shard": 2},
        {"type": "mesh", "tensor": 2},
        {"type": "zero", "stage": 3},
    ]
    train = tiny_spec["stages"].pop("base")["train"]
    tuned = {
        f"ft{number}": {
            "train": {
                **train,
                "model": {"type": "pretrained", "path": str(narrow)},
                "optimizer": {"type": "adamw", "lr": 1e-5, "weight_decay": 0.0},
                "budget": "2 steps",
                "precision": "bf16",
                "strategy": strategy,
                "evaluate": [],
            }
        }
        for number, strategy in enumerate(ranked)
    }
    tiny_spec["stages"] |= tuned
    engine_ranks(2, "run", write_spec(tiny_spec), "--runs", tmp_path)
    for name in tuned:
        _nearly_all_moved(_weights(narrow), _weights(tmp_path / "tiny" / name / "final"))


def test_a_checkpoint_of_several_types_is_opened_exactly(narrow, tmp_path):
    """A float32 norm among bf16 matrices keeps its bits; config.json names one type for all."""
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    for file in narrow.iterdir():
        (mixed / file.name).write_bytes(file.read_bytes())
    weights = _weights(narrow)
    weights["model.norm.weight"] = torch.full([32], 1 / 3)
    save_file(weights, mixed / "model.safetensors", {"format": "pt"})
    context = SimpleNamespace(tokenizer=lambda: range(10))
    model = build_pretrained(Pretrained(path=str(mixed)), context)
    for name, weight in weights.items():
        assert torch.equal(model.state_dict()[name], weight.float())


def test_only_frozen_weights_that_lose_nothing_are_narrow():
    """A frozen float32 weight leaves as it came, a frozen bf16 one takes no more memory."""
    model = nn.ModuleList(nn.Linear(2, 2, bias=False) for _ in range(3))
    learns, exact, inexact = (layer.weight for layer in model)
    learns.data = learns.data.bfloat16()
    exact.data, inexact.data = torch.eye(2), torch.full((2, 2), 1 / 3)
    exact.requires_grad_(False)
    inexact.requires_grad_(False)
    for_training(model, "bf16")
    assert [p.dtype for p in (learns, exact, inexact)] == [
        torch.float32,
        torch.bfloat16,
        torch.float32,
    ]
    for_training(model, "fp32")
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_a_model_is_scored_in_the_type_that_held_it():
    """And in float32 where one weight needs it."""
    model = nn.Linear(2, 2, bias=False)
    model.weight.data = torch.full((2, 2), 1.5)
    for_scoring(model)
    assert model.weight.dtype == torch.bfloat16
    model.weight.data = torch.tensor([[1.5, 1 / 3]])
    for_scoring(model)
    assert model.weight.dtype == torch.float32


def _small(name):
    from transformers import AutoConfig, AutoModelForCausalLM

    return AutoModelForCausalLM.from_config(AutoConfig.for_model(name, **tiny_config(name)))


def test_buffers_are_as_narrow_as_the_code_needs():
    """GPT's mask, which transformers builds in the type of the weights; Llama's angles stay."""
    for name, narrow in (("openai-gpt", True), ("llama", False)):
        model = _small(name)
        for_training(model, "bf16")
        types = {buffer.dtype for buffer in model.buffers() if buffer.is_floating_point()}
        assert types == {torch.bfloat16 if narrow else torch.float32}


def test_code_that_mixes_types_is_refused_before_the_first_step():
    """Inkling 2's gates are float32 whatever its weights; scored, such a model stays in float32."""
    model = _small("inkling2_text")
    with pytest.raises(
        SpecError, match=r"'inkling2_text' mixes bf16 with fp32.*use precision: fp32"
    ):
        for_training(model, "bf16")
    for_training(model, "fp32")
    for parameter in model.parameters():
        parameter.data = parameter.data.bfloat16().float()
    for_scoring(model)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
