"""DeepSpeed's configuration: the engine's settings, merged with the user's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from engine_zero import merge
from engine_zero.config import Zero

_BUCKET = 2**24
"""Elements in a communication bucket; DeepSpeed's default, 5·10⁸, is 2 GB of float32."""


def deepspeed_settings(config: Zero, precision: str, device: torch.device) -> dict[str, Any]:
    """DeepSpeed's configuration."""
    pinned = device.type != "cpu"
    zero: dict[str, Any] = {
        "stage": config.stage,
        "reduce_bucket_size": _BUCKET,
        "allgather_bucket_size": _BUCKET,
    }
    for section, place in (
        ("offload_optimizer", config.offload_optimizer),
        ("offload_param", config.offload_parameters),
    ):
        if place != "none":
            zero[section] = {"device": "cpu", "pin_memory": pinned}
        if place == "disk":
            zero[section] |= {"device": "nvme", "nvme_path": config.offload_folder}
    settings: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,  # only reported; the engine makes batches
        "gradient_accumulation_steps": 1,  # the engine accumulates gradients
        "log_level": "error",  # the engine itself logs skipped steps
        "zero_allow_untested_optimizer": True,
        "zero_force_ds_cpu_optimizer": False,
        "zero_optimization": zero,
        # Sum gradients in float32 over micro-batches and ranks.
        "data_types": {"grad_accum_dtype": "fp32"},
        "communication_data_type": "fp32",
    }
    if precision == "bf16":
        # Without this check, DeepSpeed would take steps with gradients that are not finite.
        settings["bf16"] = {"enabled": True, "check_grad_overflow": True}
    return _merged(settings, merge.taken(merge.read(config.config)))


def _merged(settings: Mapping[str, Any], theirs: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(settings)
    for name, value in theirs.items():
        both = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = _merged(merged[name], value) if both else value
    return merged
