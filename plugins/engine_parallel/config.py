"""Configurations of the strategies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field

from engine import (
    Count,
    Layout,
    ModelShape,
    Number,
    PenaltyInput,
    StrategyConfig,
)

_ALL: frozenset[PenaltyInput] = frozenset({"hidden", "modules", "parameters"})


class Single(StrategyConfig):
    """One process."""

    automatic: ClassVar[bool] = True
    penalty_inputs: ClassVar = _ALL

    def check_processes(self, processes: int) -> str | None:
        """See :class:`engine.StrategyConfig`: one process only."""
        if processes == 1:
            return None
        return f"'single' runs on 1 process, not {processes}; use {{type: ddp}}"

    @classmethod
    def suggestions(cls, processes: int) -> Sequence[Mapping[str, Any]]:
        """See :class:`engine.StrategyConfig`: for one process."""
        return [{}] if processes == 1 else []


class DDP(StrategyConfig):
    """Data parallelism: every process holds the whole model; gradients are averaged."""

    automatic: ClassVar[bool] = True
    penalty_inputs: ClassVar = _ALL
    bucket_mb: Number = Field(25.0, gt=0, description="Size of a gradient bucket, in MiB.")

    @classmethod
    def suggestions(cls, processes: int) -> Sequence[Mapping[str, Any]]:
        """See :class:`engine.StrategyConfig`: for several processes."""
        return [{}] if processes > 1 else []


class Mesh(StrategyConfig):
    """Processes in a grid of parallel degrees, whose product is the number of processes."""

    automatic: ClassVar[bool] = True
    data: Count | None = Field(
        None,
        description="Data-parallel copies of the grid below; by default, the number of processes "
        "divided by the product of the other degrees.",
    )
    shard: Count = Field(
        1, description="Ranks that shard weights, gradients and optimizer (FSDP2)."
    )
    tensor: Count = Field(1, description="Ranks that split matrices (tensor parallelism).")
    pipeline: Count = Field(1, description="Ranks that hold consecutive stages of layers.")
    context: Count = Field(1, description="Ranks that split every sequence (context parallelism).")
    expert: Count = Field(1, description="Ranks that divide the experts; each has its own samples.")
    schedule: Literal["1f1b", "interleaved"] = Field(
        "1f1b",
        description="Pipeline schedule; `interleaved` has two stages of layers on each rank. With "
        "fewer micro-batches than stages, all forward passes come first.",
    )

    @property
    def whole_matrices(self) -> bool:  # type: ignore[override]
        """Whether every rank holds whole matrices."""
        return self.shard * self.tensor * self.context * self.expert == 1

    @property
    def penalty_inputs(self) -> frozenset[PenaltyInput]:
        """See :class:`engine.StrategyConfig`: all where no degree divides layers; nothing where ranks
        divide the head, or only the last one of a pipeline has it."""
        if self.pipeline * self.tensor > 1:
            return frozenset()
        return _ALL if self.context * self.expert == 1 else frozenset({"hidden"})

    @property
    def runs_of_layers(self) -> int:
        """The number of pipeline stages, each a run of consecutive layers."""
        interleaved = self.pipeline > 1 and self.schedule != "1f1b"
        return self.pipeline * (2 if interleaved else 1)

    def layout(self, processes: int) -> Layout:
        """See :class:`engine.StrategyConfig`: FSDP shards all state, over ``context`` as well."""
        degrees = self.shard * self.tensor * self.pipeline * self.context * self.expert
        over = self.shard * self.context * self.expert
        return Layout(
            data=self.data or processes // degrees,
            shard=self.shard,
            tensor=self.tensor,
            pipeline=self.pipeline,
            context=self.context,
            expert=self.expert,
            parameters_over=over,
            gradients_over=over,
            optimizer_over=over,
            resident=False,
        )

    @classmethod
    def suggestions(cls, processes: int) -> Sequence[Mapping[str, Any]]:
        """See :class:`engine.StrategyConfig`: one degree, and ``data`` or ``shard`` for the rest."""
        degrees = [d for d in range(2, processes + 1) if processes % d == 0]
        found: list[Mapping[str, Any]] = [{"shard": d} for d in degrees]
        for name in ("tensor", "pipeline", "context"):
            found += [{name: d} for d in degrees]
            found += [{name: d, "shard": processes // d} for d in degrees if d < processes]
        return found

    def check_processes(self, processes: int) -> str | None:
        """See :class:`engine.StrategyConfig`: the product of the degrees is the number of processes."""
        others = self.shard * self.tensor * self.pipeline * self.context * self.expert
        named = {
            name: getattr(self, name)
            for name in ("data", "shard", "tensor", "pipeline", "context", "expert")
            if (getattr(self, name) or 1) > 1
        }
        told = " × ".join(f"{name} {degree}" for name, degree in named.items()) or "data 1"
        if self.data and self.data * others != processes:
            need = self.data * others
            or_ = f", or data: {processes // others}" if processes % others == 0 else ""
            return f"{told} needs {need} processes, not {processes}; use --nproc {need}{or_}"
        if processes % others:
            fits = ", ".join(str(others * k) for k in (1, 2, 3))
            return f"{told} needs a multiple of {others} processes, not {processes}; use {fits} …"
        return None

    def check_train(self, train: Any, processes: int) -> str | None:
        """See :class:`engine.StrategyConfig`: ``tensor`` can only split plain linear layers."""
        if self.tensor > 1 and train.model.trained_adapter is not None:
            return f"tensor {self.tensor} cannot split layers with an adapter; use data or shard"
        return None

    def check_model(self, shape: ModelShape, processes: int) -> str | None:
        """See :class:`engine.StrategyConfig`: degrees must divide heads, widths, layers and experts."""
        for what, size in (
            ("heads", shape.heads),
            ("kv_heads", shape.kv_heads),
            ("intermediate_size", shape.intermediate_size),
        ):
            if size % self.tensor:
                fits = _divisors(size)
                return (
                    f"tensor: {what} {size} is not a multiple of {self.tensor}; use one of {fits}"
                )
        if self.runs_of_layers > shape.layers:
            return (
                f"pipeline: {shape.layers} layers cannot be split into {self.runs_of_layers} stages; "
                f"use at most {shape.layers // (self.runs_of_layers // self.pipeline)}"
            )
        if self.expert > 1 and shape.experts == 1:
            return "expert: the model has no experts to divide; use another degree"
        if shape.experts % self.expert:
            return (
                f"expert: {shape.experts} experts are not a multiple of {self.expert}; "
                f"use one of {_divisors(shape.experts)}"
            )
        return None


def _divisors(number: int) -> str:
    return ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)
