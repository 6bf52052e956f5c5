"""A user's own DeepSpeed configuration: what is passed on, and where it contradicts the spec."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

_TAKEN = {
    "aio",
    "comms_logger",
    "communication_data_type",
    "log_level",
    "memory_breakdown",
    "steps_per_print",
    "wall_clock_breakdown",
    "zero_allow_untested_optimizer",
}
"""Top-level sections, besides ``zero_optimization``, that only tune or report."""
_ZERO_TAKEN = {
    "allgather_bucket_size",
    "allgather_partitions",
    "contiguous_gradients",
    "memory_efficient_linear",
    "overlap_comm",
    "reduce_bucket_size",
    "reduce_scatter",
    "sub_group_size",
    "use_multi_rank_bucket_allreduce",
    *(
        f"stage3_{name}"
        for name in (
            "gather_16bit_weights_on_model_save",
            "max_live_parameters",
            "max_reuse_distance",
            "model_persistence_threshold",
            "module_granularity_threshold",
            "param_persistence_threshold",
            "prefetch_bucket_size",
        )
    ),
}
_OFFLOAD = {"offload_optimizer": "offload_optimizer", "offload_param": "offload_parameters"}
"""DeepSpeed's sections, and the fields of the spec that replace them."""
_OFFLOAD_TAKEN = {
    "buffer_count", "buffer_size", "max_in_cpu", "pin_memory", "pipeline_read", "pipeline_write",
}  # fmt: skip
_BATCH = ("train_batch_size", "train_micro_batch_size_per_gpu", "gradient_accumulation_steps")
_NARROW = {"bf16": "bf16", "bfloat16": "bf16", "fp16": "fp16"}
_MAPPINGS = ("zero_optimization", "optimizer", "scheduler", *_NARROW)


def read(config: str | Mapping[str, Any] | None) -> dict[str, Any]:
    """Reads the configuration, without its ``"auto"`` values. Raises ValueError where it is invalid."""
    found: Any = config or {}
    if isinstance(config, str):
        try:
            found = json.loads(Path(config).read_text(encoding="utf-8")) or {}
        except OSError as error:
            raise ValueError(f"'{config}': {error.strerror}") from None
        except (ValueError, RecursionError) as error:
            raise ValueError(f"'{config}' is not JSON: {error}") from None
    if not isinstance(found, Mapping):
        raise ValueError("DeepSpeed's configuration must be a mapping")
    return _without_auto(found)


def taken(config: Mapping[str, Any]) -> dict[str, Any]:
    """What is passed on to DeepSpeed: everything that the spec does not set itself."""
    zero = config.get("zero_optimization", {})
    tuned = {name: value for name, value in zero.items() if name in _ZERO_TAKEN}
    for section in _OFFLOAD:
        found = {k: v for k, v in zero.get(section, {}).items() if k in _OFFLOAD_TAKEN}
        tuned |= {section: found} if found else {}
    return {**{n: v for n, v in config.items() if n in _TAKEN}, "zero_optimization": tuned}


def own_contradictions(config: Mapping[str, Any], spec: Any) -> Iterator[str]:
    """Contradictions with the strategy's other fields, and settings that are not passed on."""
    odd = [*_no_mappings(config, _MAPPINGS), *_no_mappings(config.get("optimizer"), ("params",))]
    odd += _no_mappings(config.get("zero_optimization"), _OFFLOAD)
    if odd:
        yield from odd
        return
    zero = config.get("zero_optimization", {})
    if zero.get("stage", spec.stage) != spec.stage:
        yield _both("zero_optimization.stage", zero["stage"], "stage", spec.stage)
    known = {"stage", *_ZERO_TAKEN}
    for section, field in _OFFLOAD.items():
        found, says = zero.get(section, {}), getattr(spec, field)
        device = found.get("device", "none" if found else says)
        if {"nvme": "disk"}.get(device, device) != says:
            yield _both(f"zero_optimization.{section}.device", device, field, says)
        folder = found.get("nvme_path", spec.offload_folder)
        if folder != spec.offload_folder:
            yield _both(
                f"zero_optimization.{section}.nvme_path",
                folder,
                "offload_folder",
                spec.offload_folder,
            )
        unknown = set(found) - {"device", "nvme_path", *_OFFLOAD_TAKEN}
        yield from (_not_taken(f"zero_optimization.{section}.{n}") for n in sorted(unknown))
        known.add(section)
    yield from (_not_taken(f"zero_optimization.{name}") for name in sorted(set(zero) - known))
    elsewhere = {*_BATCH, *_NARROW, "gradient_clipping", "optimizer", "scheduler"}
    unknown = set(config) - {"zero_optimization", *_TAKEN, *elsewhere}
    yield from (_not_taken(name) for name in sorted(unknown))


def contradictions(config: Mapping[str, Any], train: Any, processes: int) -> Iterator[str]:
    """Contradictions with the rest of the train stage."""
    yield from _batch(config, train, processes)
    for section, precision in _NARROW.items():
        enabled = config.get(section, {}).get("enabled")
        if enabled is not None and enabled != (train.precision == precision):
            yield _both(f"{section}.enabled", enabled, "precision", train.precision)
    if "gradient_clipping" in config and config["gradient_clipping"] != (train.clip or 0.0):
        yield _both("gradient_clipping", config["gradient_clipping"], "clip", train.clip)
    optimizer = config.get("optimizer", {})
    kind = optimizer.get("type")
    if kind is not None and str(kind).lower() != train.optimizer.type:
        yield _both("optimizer.type", kind, "optimizer", train.optimizer.type)
    for name, value in optimizer.get("params", {}).items():
        says = getattr(train.optimizer, name, None)
        if value != (list(says) if isinstance(says, tuple) else says):
            yield _both(f"optimizer.params.{name}", value, f"optimizer.{name}", says)
    if config.get("scheduler"):
        kind = config["scheduler"].get("type")
        yield _both("scheduler", kind, "optimizer.schedule", train.optimizer.schedule.type)


def _batch(config: Mapping[str, Any], train: Any, processes: int) -> Iterator[str]:
    """Contradictions in the batch size, which DeepSpeed counts in rows and the engine in tokens."""
    batch = train.batch
    length = train.row_length(train.model)
    rows, micro = (
        t // length if length and t else None for t in (batch.tokens, batch.micro_tokens)
    )
    steps = -(-rows // (micro * processes)) if rows and micro else None
    for name, value, field in zip(
        _BATCH,
        (rows, micro, steps),
        ("batch.tokens", "batch.micro_tokens", "batch"),
        strict=True,
    ):
        if name in config and config[name] != value:
            says = f"{value} rows" if field != "batch" else f"{value} micro-batches"
            tokens = getattr(batch, field.removeprefix("batch."), None)
            says = f"{tokens} ({says})" if field != "batch" and value else says
            yield _both(name, config[name], field, says if value else tokens)


def _no_mappings(config: Any, names: Iterable[str]) -> Iterator[str]:
    for name in names if isinstance(config, Mapping) else ():
        if not isinstance(config.get(name, {}), Mapping):
            yield f"{name} is {config[name]!r} in config, not a mapping"


def _both(theirs: str, value: object, ours: str, says: object) -> str:
    return f"{theirs} is {value} in config, but {ours} is {says}"


def _not_taken(name: str) -> str:
    return f"{name} in config: strategy 'zero' does not pass it on"


def _without_auto(value: Mapping[str, Any]) -> dict[str, Any]:
    """The mapping without "auto", by which Hugging Face marks values that the program sets."""
    return {
        name: _without_auto(inner) if isinstance(inner, Mapping) else inner
        for name, inner in value.items()
        if inner != "auto"
    }
