"""Pipeline parallelism: torch's schedules, for any number and shape of micro-batches."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.pipelining import PipelineStage
from torch.distributed.pipelining.schedules import (
    Schedule1F1B,
    ScheduleGPipe,
    ScheduleInterleaved1F1B,
    ScheduleLoopedBFS,
)

from engine_parallel.mesh.decoder import Decoder

_FULL = {"1f1b": Schedule1F1B, "interleaved": ScheduleInterleaved1F1B}


class Pipeline:
    """This rank's runs of layers, and the schedule of micro-batches through them."""

    def __init__(
        self,
        runs: Sequence[tuple[int, Decoder]],
        n_runs: int,
        group: dist.ProcessGroup,
        schedule: str,
        device: torch.device,
    ) -> None:
        self._runs, self._n_runs = runs, n_runs
        self._group, self._device = group, device
        self._schedule = schedule
        self._made: tuple[Any, Any] = (None, None)

    def forward_backward(
        self, input_ids: Tensor, position_ids: Tensor, example: Tensor, loss: Tensor
    ) -> None:
        """Runs the forward and backward passes of all micro-batches; both inputs are ``_NBT``.

        ``example`` has the shape and type of the state between runs, ``loss`` those of a loss.
        """
        count = input_ids.shape[0]
        key = (count, example.shape)
        if self._made[0] != key:
            self._made = (key, self._make(count, input_ids, example, loss))
        numbers = torch.arange(count, device=self._device)
        places = {"position_ids": position_ids.flatten(0, 1), "number": numbers}
        first = any(run.is_first for _, run in self._runs)
        last = any(run.is_last for _, run in self._runs)
        schedule = self._made[1]
        arguments = (input_ids.flatten(0, 1),) if first else ()
        target = {"target": numbers, "losses": []} if last else {}
        schedule.step(*arguments, **places, **target, return_outputs=False)

    def _make(self, count: int, input_ids: Tensor, example: Tensor, loss: Tensor) -> Any:
        stages = [
            PipelineStage(
                run,
                number,
                self._n_runs,
                self._device,
                input_args=input_ids[0] if run.is_first else example,
                output_args=loss if run.is_last else example,
                group=self._group,
            )
            for number, run in self._runs
        ]
        chosen: Any = _FULL[self._schedule]
        options = {"loss_fn": lambda output, target: output, "scale_grads": False}
        if count < self._n_runs or count % dist.get_world_size(self._group):
            chosen = ScheduleGPipe if len(stages) == 1 else ScheduleLoopedBFS
        return chosen(stages[0] if len(stages) == 1 else stages, count, **options)
