"""Finds this rank's part of each parameter in DeepSpeed, and joins parts to whole parameters.

A part is a slice of the flattened parameter: of its float32 master weight, of an entry of the optimizer
state, or of anything else with the same layout. Checkpoints hold whole parameters, so that any strategy
can read them on any number of ranks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Shard


class Parts(Protocol):
    """How a DeepSpeed optimizer divides parameters among ranks."""

    def start(self, parameter: nn.Parameter) -> int:
        """The index in the flattened parameter at which this rank's part begins."""

    def flat(self, parameter: nn.Parameter) -> Tensor:
        """The flat tensor that contains the part; the optimizer's state is keyed by it."""

    def read(self, parameter: nn.Parameter, key: str | None = None) -> Tensor:
        """This rank's part, possibly empty, of the master weight or of an optimizer-state entry."""

    def write(self, parameter: nn.Parameter, part: Tensor, key: str | None = None) -> None:
        """Replaces it."""

    def make_state(self) -> None:
        """Makes the optimizer create its state, in a step that changes nothing."""

    def refresh(self) -> None:
        """Copies the master weights to the model."""


class FlatParts:
    """Stages 1 and 2: the parameters of a group are concatenated and divided evenly among ranks."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer
        narrow = hasattr(optimizer, "bf16_groups")  # stage 1 in bf16 has an optimizer of its own
        names = ("bf16_groups", "fp32_groups_flat_partition")
        if not narrow:
            names = ("bit16_groups", "single_partition_of_fp32_groups")
        groups, self._flats = (getattr(optimizer, name) for name in names)
        self._flat_of: dict[nn.Parameter, Tensor] = {
            parameter: flat
            for group, flat in zip(groups, self._flats, strict=True)
            for parameter in group
        }

    def start(self, parameter: Any) -> int:
        """See :class:`Parts`."""
        mapping = parameter._hp_mapping
        return int(mapping.lp_fragment_address.start) if mapping else 0

    def flat(self, parameter: nn.Parameter) -> Tensor:
        """See :class:`Parts`."""
        return self._flat_of[parameter]

    def read(self, parameter: Any, key: str | None = None) -> Tensor:
        """See :class:`Parts`."""
        whole = self._flat_of[parameter]
        if key is not None:
            whole = self._optimizer.optimizer.state[whole][key]
        mapping = parameter._hp_mapping
        if mapping is None:
            return whole.detach()[:0]
        address = mapping.hp_fragment_address
        return whole.detach().narrow(0, address.start, address.numel)

    def write(self, parameter: nn.Parameter, part: Tensor, key: str | None = None) -> None:
        """See :class:`Parts`."""
        self.read(parameter, key).copy_(part)

    def make_state(self) -> None:
        """See :class:`Parts`."""
        with _zero_gradients(self._flats):
            self._optimizer.optimizer.step()

    def refresh(self) -> None:
        """See :class:`Parts`."""
        self._optimizer.update_lp_params()


class Stage3Parts:
    """Stage 3: every parameter is divided evenly among ranks, with padding in the last part."""

    def __init__(self, optimizer: Any) -> None:
        self._optimizer = optimizer

    def start(self, parameter: Any) -> int:
        """See :class:`Parts`."""
        return min(dist.get_rank() * int(parameter.partition_numel()), int(parameter.ds_numel))

    def flat(self, parameter: nn.Parameter) -> Tensor:
        """See :class:`Parts`."""
        place = self._optimizer.grad_position[self._optimizer.get_param_id(parameter)]
        flat: Tensor = self._optimizer.fp32_partitioned_groups_flat[place[0]]
        return flat

    def read(self, parameter: Any, key: str | None = None) -> Tensor:
        """See :class:`Parts`."""
        padded: Tensor = self._optimizer.get_local_fp32_param(parameter, key)
        return padded.detach()[: int(parameter.ds_numel) - self.start(parameter)]

    def write(self, parameter: Any, part: Tensor, key: str | None = None) -> None:
        """See :class:`Parts`."""
        padding = int(parameter.partition_numel()) - part.numel()
        padded = nn.functional.pad(part, (0, padding))
        self._optimizer.set_local_hp_param(padded, parameter, key)

    def make_state(self) -> None:
        """See :class:`Parts`."""
        optimizer = self._optimizer
        for number, flat in enumerate(optimizer.fp32_partitioned_groups_flat):
            on_disk = optimizer._swappable_optimizer_subgroup(number)
            if on_disk:
                optimizer._optimizer_states_and_gradient_swap_in(number)
            with _zero_gradients([flat]):
                optimizer._optimizer_step(number)
            if on_disk:
                optimizer._optimizer_states_and_gradient_swap_out(number)

    def refresh(self) -> None:
        """See :class:`Parts`."""
        optimizer = self._optimizer
        optimizer._partition_all_parameters()
        for number in range(len(optimizer.fp32_partitioned_groups_flat)):
            optimizer._reassign_or_swap_out_partitioned_parameters(number)
        if optimizer.persistent_parameters:  # small ones, which every rank keeps
            optimizer.persistent_parameters[0].all_gather(optimizer.persistent_parameters)


@contextmanager
def _zero_gradients(tensors: list[Tensor]) -> Iterator[None]:
    """Temporarily gives tensors without a gradient one of zeros; offloaded ones keep theirs."""
    without = [tensor for tensor in tensors if tensor.grad is None]
    for tensor in without:
        tensor.grad = torch.zeros_like(tensor)
    yield
    for tensor in without:
        tensor.grad = None


def whole(part: Tensor, start: int, shape: torch.Size) -> Tensor:
    """Joins all ranks' parts to the whole parameter; collective.

    Sums bytes, of which only one rank's is not 0, so that every bit is kept, even the sign of a zero.
    """
    flat = torch.zeros(shape.numel(), dtype=part.dtype, device=part.device)
    flat[start : start + part.numel()] = part
    if dist.get_world_size() > 1:
        dist.all_reduce(flat.view(torch.uint8))
    return flat.view(shape)


class Rows:
    """Divides whole tensors among ranks by their first dimension, on the CPU."""

    def __init__(self) -> None:
        self._size, self._rank = dist.get_world_size(), dist.get_rank()
        self._mesh = DeviceMesh("cpu", list(range(self._size))) if self._size > 1 else None

    def divide(self, tensor: Tensor) -> Tensor:
        """Keeps this rank's rows, as a DTensor of the whole shape."""
        tensor = tensor.detach().cpu()
        if self._mesh is None or tensor.dim() == 0:
            return tensor.clone()
        rows = -(-len(tensor) // self._size)
        mine = tensor[self._rank * rows : (self._rank + 1) * rows].clone()
        return DTensor.from_local(
            mine,
            self._mesh,
            [Shard(0)],
            run_check=False,
            shape=tensor.shape,
            stride=tensor.stride(),
        )

    @staticmethod
    def join(tensor: Tensor) -> Tensor:
        """The whole tensor on every rank; collective."""
        return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_entries(state: Mapping[str, Any], flat: Tensor) -> Iterator[tuple[str, Any]]:
    """Entries of a flat tensor's optimizer state that lack its layout, such as ``step``."""
    for key, value in state.items():
        if not (torch.is_tensor(value) and value.shape == flat.shape):
            yield key, value
