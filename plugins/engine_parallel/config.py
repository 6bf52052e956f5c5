"""Configurations of the strategies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import Field

from engine import Count, Layout, ModelShape, Number, StrategyConfig

if TYPE_CHECKING:
    from engine import Candidate


class Single(StrategyConfig):
    """One process."""

    def check_processes(self, processes: int) -> str | None:
        """One only."""
        if processes == 1:
            return None
        return f"'single' runs on 1 process, not {processes}; use {{type: ddp}}"

    @classmethod
    def suggestions(cls, processes: int) -> Sequence[Mapping[str, Any]]:
        """For one."""
        return [{}] if processes == 1 else []


class DDP(StrategyConfig):
    """Every process holds the whole model; gradients are averaged."""

    bucket_mb: Number = Field(25.0, gt=0, description="Size of a gradient bucket, in MiB.")

    @classmethod
    def suggestions(cls, processes: int) -> Sequence[Mapping[str, Any]]:
        """For several."""
        return [{}] if processes > 1 else []


class Mesh(StrategyConfig):
    """Processes as a grid: the product of the degrees is their number."""

    data: Count | None = Field(
        None, description="Ranks with copies of everything below; without it, as many as are left."
    )
    shard: Count = Field(1, description="Ranks that share weights, gradients, optimizer (FSDP2).")
    tensor: Count = Field(1, description="Ranks that share every matrix, and rows between them.")
    pipeline: Count = Field(1, description="Ranks that hold one run of layers after another.")
    context: Count = Field(1, description="Ranks that share every row of tokens.")
    expert: Count = Field(1, description="Ranks that share the experts; each has its own samples.")
    schedule: Literal["1f1b", "interleaved"] = Field(
        "1f1b",
        description="Order of the pipeline's passes; interleaved: two runs of layers on each rank. "
        "With fewer micro-batches than runs, all forward passes come first.",
    )

    @property
    def whole_matrices(self) -> bool:  # type: ignore[override]
        """Whether every rank holds its matrices whole."""
        return self.shard * self.tensor * self.context * self.expert == 1

    @property
    def runs_of_layers(self) -> int:
        """Pieces into which the layers are cut."""
        interleaved = self.pipeline > 1 and self.schedule != "1f1b"
        return self.pipeline * (2 if interleaved else 1)

    def layout(self, processes: int) -> Layout:
        """FSDP divides all state by ``shard`` and, as they hold the same, by ``context``."""
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
        """One degree, the rest copies; or beside ``shard``, which takes the rest."""
        degrees = [d for d in range(2, processes + 1) if processes % d == 0]
        found: list[Mapping[str, Any]] = [{"shard": d} for d in degrees]
        for name in ("tensor", "pipeline", "context"):
            found += [{name: d} for d in degrees]
            found += [{name: d, "shard": processes // d} for d in degrees if d < processes]
        return found

    def check_processes(self, processes: int) -> str | None:
        """The degrees must multiply to the number of processes."""
        others = self.shard * self.tensor * self.pipeline * self.context * self.expert
        named = {
            name: getattr(self, name)
            for name in ("data", "shard", "tensor", "pipeline", "context", "expert")
            if (getattr(self, name) or 1) > 1
        }
        told = " × ".join(f"{name} {degree}" for name, degree in named.items()) or "no degree"
        if self.data and self.data * others != processes:
            need = self.data * others
            or_ = f", or data: {processes // others}" if processes % others == 0 else ""
            return f"{told} makes {need} processes, not {processes}; use --nproc {need}{or_}"
        if processes % others:
            fits = ", ".join(str(others * k) for k in (1, 2, 3))
            return f"{told} makes a multiple of {others} processes, not {processes}; use {fits} …"
        return None

    def check_train(self, train: Any, processes: int) -> str | None:
        """Only plain linear layers are cut."""
        if self.tensor > 1 and getattr(train.model, "adapter", None) is not None:
            return f"tensor {self.tensor} cannot cut layers with an adapter; use data or shard"
        return None

    def check_model(self, shape: ModelShape, processes: int) -> str | None:
        """Heads, feed-forward width, layers and experts must divide."""
        if self.tensor > 1 and shape.experts > 1:
            return "tensor: experts are shared by `expert`, not by `tensor`"
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
                f"pipeline: {shape.layers} layers cannot be cut into {self.runs_of_layers} runs; "
                f"use at most {shape.layers // (self.runs_of_layers // self.pipeline)}"
            )
        if shape.experts % self.expert:
            return (
                f"expert: {shape.experts} experts are not a multiple of {self.expert}; "
                f"use one of {_divisors(shape.experts)}"
            )
        return None


class Auto(StrategyConfig):
    """Any of the others: whatever fits the memory with the least traffic, as `engine plan` has it."""

    chooses: ClassVar[bool] = True

    def choice(self, candidates: Sequence[Candidate]) -> tuple[Candidate, str] | None:
        """The first that fits of candidates that come cheapest first, and why it was taken.

        Only this plugin's: DeepSpeed and others want to be asked for by name. Where none fits, the one
        that needs least: the estimate may be wrong, and `engine plan` says what can be done.
        """
        own = [c for c in candidates if isinstance(c.config, Single | DDP | Mesh)]
        if not own:
            return None
        fitting = [candidate for candidate in own if candidate.fits]
        if fitting:
            others = f" of {len(fitting)} layouts that fit" if len(fitting) > 1 else ""
            why = f"least traffic and waiting{others}" if others else "the only one that fits"
            return fitting[0], why
        least = min(own, key=lambda candidate: candidate.estimate.memory.total)
        return least, f"none of {len(own)} layouts fits, and this one needs the least memory"


def _divisors(number: int) -> str:
    return ", ".join(str(d) for d in range(1, number + 1) if number % d == 0)
