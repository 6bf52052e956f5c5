"""Configuration of the strategy."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from engine import Layout, PenaltyInput, StrategyConfig
from engine_zero import merge

Place = Literal["none", "cpu", "disk"]


class Zero(StrategyConfig):
    """DeepSpeed's ZeRO: data parallelism in which each process keeps a part of the training state."""

    whole_matrices: ClassVar[bool] = False

    penalty_inputs: ClassVar[frozenset[PenaltyInput]] = frozenset({"hidden", "modules"})

    stage: Literal[1, 2, 3] = Field(
        2,
        description="What is sharded over processes: 1 the optimizer state, 2 also gradients, 3 also "
        "weights.",
    )
    offload_optimizer: Place = Field(
        "none",
        description="Where float32 master weights and optimizer state are kept; if offloaded, the CPU "
        "updates them.",
    )
    offload_parameters: Place = Field(
        "none", description="Where weights are kept while not in use; needs stage 3."
    )
    offload_folder: str | None = Field(None, description="Folder for `disk` offloading.")
    config: str | dict[str, Any] | None = Field(
        None,
        description="DeepSpeed's own configuration, as a mapping or the path of a JSON file; it must "
        "not contradict the spec.",
    )

    @model_validator(mode="after")
    def _fits(self) -> Zero:
        places = {n: getattr(self, n) for n in ("offload_optimizer", "offload_parameters")}
        for name, place in places.items():
            needs_three = place == "disk" or (place == "cpu" and name == "offload_parameters")
            if needs_three and self.stage < 3:
                raise ValueError(f"{name} '{place}' needs stage 3, and stage is {self.stage}")
        to_disk = [name for name, place in places.items() if place == "disk"]
        if to_disk and self.offload_folder is None:
            raise ValueError(f"{to_disk[0]} 'disk' needs offload_folder")
        if self.offload_folder is not None and not to_disk:
            raise ValueError(
                f"offload_folder is '{self.offload_folder}', but no offload is set to disk"
            )
        wrong = list(merge.own_contradictions(merge.read(self.config), self))
        if wrong:
            raise ValueError("; ".join(wrong))
        return self

    def check_train(self, train: Any, processes: int) -> str | None:
        """See :class:`engine.StrategyConfig`."""
        wrong = list(merge.contradictions(merge.read(self.config), train, processes))
        if train.precision == "fp16":
            wrong.append(
                "fp16 is not supported: DeepSpeed has none on CPUs, and on GPUs it is untested; use "
                "bf16"
            )
        return "; ".join(wrong) or None

    @classmethod
    def suggestions(cls, processes: int) -> Sequence[Mapping[str, Any]]:
        """Each stage, for several."""
        return [{"stage": stage} for stage in (1, 2, 3)] if processes > 1 else []

    def layout(self, processes: int) -> Layout:
        """See :class:`engine.StrategyConfig`."""
        optimizer, gradients, parameters = (
            processes if self.stage >= stage else 1 for stage in (1, 2, 3)
        )
        return Layout(
            data=processes,
            parameters_over=parameters,
            gradients_over=gradients,
            optimizer_over=optimizer,
            mastered=True,
        )
