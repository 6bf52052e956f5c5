"""What strategy `zero` refuses before anything runs, and what it passes on to DeepSpeed."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import torch
from engine_zero.config import Zero
from engine_zero.settings import deepspeed_settings

from engine import Layout, SpecError, load_spec

CPU = torch.device("cpu")


@pytest.fixture
def problems(tiny_spec, write_spec):
    """What is wrong with the tiny spec under a strategy and other changes of its train stage."""

    def check(strategy, **changes) -> str:
        tiny_spec["stages"]["base"]["train"] |= {
            "strategy": {"type": "zero", **strategy},
            "precision": "fp32",
            **changes,
        }
        try:
            load_spec(write_spec(tiny_spec), processes=2)
        except SpecError as error:
            return "\n".join(error.problems)
        return ""

    return check


def test_a_spec_with_zero_is_valid_without_deepspeed(problems, tiny_spec, write_spec):
    """Neither torch's nor DeepSpeed's import is waited for."""
    for stage in (1, 2, 3):
        assert problems({"stage": stage}) == ""
    tiny_spec["stages"]["base"]["train"]["strategy"] = {"type": "zero"}
    code = (
        "import sys; from pathlib import Path; from engine.spec.loading import load_spec; "
        f"load_spec(Path({str(write_spec(tiny_spec))!r}), processes=2); "
        "print(sorted({'torch', 'deepspeed'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.covers("strategy/zero.stage")
def test_layout_says_what_is_divided():
    """For the forecast of memory."""
    over = {s: Zero(stage=s).layout(4) for s in (1, 2, 3)}
    each = {"data": 4, "mastered": True}
    assert over[1] == Layout(**each, optimizer_over=4)
    assert over[2] == Layout(**each, optimizer_over=4, gradients_over=4)
    assert over[3] == Layout(**each, optimizer_over=4, gradients_over=4, parameters_over=4)
    assert [deepspeed_settings(Zero(stage=s), "fp32", CPU)["zero_optimization"]["stage"]
            for s in over] == [1, 2, 3]  # fmt: skip


def test_optimizers_of_whole_matrices_are_refused(problems):
    """DeepSpeed cuts flattened parameters anywhere."""
    assert "whole matrices" in problems({}, optimizer="muon")


def test_fp16_is_refused_with_the_reason(problems):
    """Before anything runs."""
    assert "DeepSpeed has none on CPUs" in problems({}, precision="fp16")


@pytest.mark.covers("strategy/zero.config")
@pytest.mark.parametrize(
    ("theirs", "says"),
    [
        ({"zero_optimization": {"stage": 2}}, "stage is 2 in config, but stage is 3"),
        ({"gradient_clipping": 0.5}, "gradient_clipping is 0.5 in config, but clip is 1.0"),
        ({"bf16": {"enabled": True}}, "bf16.enabled is True in config, but precision is fp32"),
        ({"fp16": {"enabled": True}}, "fp16.enabled is True in config, but precision is fp32"),
        ({"train_batch_size": 3}, "train_batch_size is 3 in config, but batch.tokens is 320 (10"),
        (
            {"train_micro_batch_size_per_gpu": 3},
            "train_micro_batch_size_per_gpu is 3 in config, but batch.micro_tokens is 64 (2 rows",
        ),
        (
            {"gradient_accumulation_steps": 7},
            "gradient_accumulation_steps is 7 in config, but batch is 3 micro-batches",
        ),
        (
            {"optimizer": {"type": "Lamb"}},
            "optimizer.type is Lamb in config, but optimizer is adamw",
        ),
        (
            {"optimizer": {"type": "AdamW", "params": {"lr": 0.5}}},
            "optimizer.params.lr is 0.5 in config, but optimizer.lr is 0.01",
        ),
        (
            {"scheduler": {"type": "WarmupLR"}},
            "scheduler is WarmupLR in config, but optimizer.schedule is constant",
        ),
        (
            {"zero_optimization": {"offload_optimizer": {"device": "cpu"}}},
            "offload_optimizer.device is cpu in config, but offload_optimizer is none",
        ),
        ({"optimizer": "AdamW"}, "optimizer is 'AdamW' in config, not a mapping"),
        ({"zero_optimization": {"offload_param": True}}, "offload_param is True in config, not a"),
        ({"zero_optimization": {"zenflow": {}}}, "zero_optimization.zenflow in config: strategy"),
        (
            {"tensor_parallel": {"autotp_size": 2}},
            "tensor_parallel in config: strategy 'zero' does",
        ),
    ],
)
def test_contradictions_are_named_with_both_values(problems, tmp_path, theirs, says):
    """As a mapping and as a file."""
    changes = {
        "optimizer": {"type": "adamw", "lr": 0.01, "schedule": "constant"},
        "batch": {"tokens": 320, "micro_tokens": 64, "sequence": 32},
        "clip": 1.0,
    }
    file = tmp_path / "ds.json"
    file.write_text(json.dumps(theirs), encoding="utf-8")
    for config in (theirs, str(file)):
        assert says in problems({"stage": 3, "config": config}, **changes)


def test_what_says_the_same_or_auto_is_no_contradiction(problems):
    """A configuration written for Hugging Face's Trainer can stay as it is."""
    config = {
        "train_batch_size": "auto",
        "train_micro_batch_size_per_gpu": 2,
        "gradient_accumulation_steps": "auto",
        "gradient_clipping": 1.0,
        "bf16": {"enabled": "auto"},
        "fp16": {"enabled": False},
        "optimizer": {"type": "AdamW", "params": {"lr": "auto", "betas": [0.9, 0.95]}},
        "zero_optimization": {"stage": 3, "overlap_comm": True},
    }
    optimizer = {"type": "adamw", "betas": [0.9, 0.95]}
    batch = {"tokens": 320, "micro_tokens": 64, "sequence": 32}
    strategy = {"stage": 3, "config": config}
    assert problems(strategy, optimizer=optimizer, batch=batch, clip=1.0) == ""


def test_a_file_that_cannot_be_read_is_named(problems, tmp_path):
    """Missing, or no JSON."""
    assert "No such file" in problems({"config": str(tmp_path / "none.json")})
    (tmp_path / "ds.json").write_text("{,}", encoding="utf-8")
    assert "is not JSON" in problems({"config": str(tmp_path / "ds.json")})


def test_settings_are_merged_section_by_section():
    """The user's sizes replace the engine's; what the engine needs stays."""
    theirs = {
        "wall_clock_breakdown": True,
        "zero_optimization": {
            "reduce_bucket_size": 1000,
            "offload_optimizer": {"device": "cpu", "pin_memory": True},
        },
    }
    config = Zero(stage=2, offload_optimizer="cpu", config=theirs)
    settings = deepspeed_settings(config, "bf16", CPU)
    assert settings["wall_clock_breakdown"] is True
    assert settings["bf16"]["enabled"] is True
    assert settings["data_types"] == {"grad_accum_dtype": "fp32"}
    assert settings["zero_optimization"] == {
        "stage": 2,
        "reduce_bucket_size": 1000,
        "allgather_bucket_size": 2**24,
        "offload_optimizer": {"device": "cpu", "pin_memory": True},
    }


@pytest.mark.covers(
    "strategy/zero.offload_optimizer",
    "strategy/zero.offload_parameters",
    "strategy/zero.offload_folder",
)
def test_offloading_reaches_deepspeed():
    """Both sections, and the folder."""
    config = Zero(stage=3, offload_optimizer="disk", offload_parameters="cpu", offload_folder="/x")
    zero = deepspeed_settings(config, "fp32", CPU)["zero_optimization"]
    assert zero["offload_optimizer"] == {"device": "nvme", "nvme_path": "/x", "pin_memory": False}
    assert zero["offload_param"] == {"device": "cpu", "pin_memory": False}
    assert "offload_param" not in deepspeed_settings(Zero(), "fp32", CPU)["zero_optimization"]


@pytest.mark.parametrize(
    ("strategy", "says"),
    [
        ({"stage": 2, "offload_parameters": "cpu"}, "offload_parameters 'cpu' needs stage 3"),
        ({"stage": 1, "offload_optimizer": "disk"}, "offload_optimizer 'disk' needs stage 3"),
        ({"stage": 3, "offload_optimizer": "disk"}, "'disk' needs offload_folder"),
        ({"stage": 3, "offload_folder": "/x"}, "offload_folder is '/x', but no offload"),
    ],
)
def test_offloading_that_cannot_be_is_refused(problems, strategy, says):
    """At once."""
    assert says in problems(strategy)
