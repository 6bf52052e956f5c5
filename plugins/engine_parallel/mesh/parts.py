"""This rank's part of a parameter, and how the parts of all ranks are joined."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Size, Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard

from engine_parallel.mesh.grid import Grid


@dataclass(frozen=True, slots=True)
class Part:
    """This rank's part of a parameter, by its name in the whole model; ``weight`` is FSDP's memory."""

    name: str
    parameter: DTensor
    weight: Tensor
    mesh: DeviceMesh
    placements: tuple[Placement, ...]
    shape: Size
    stride: tuple[int, ...]

    @classmethod
    def of(cls, name: str, parameter: nn.Parameter, grid: Grid, *, expert: bool) -> Part:
        """The part of an FSDP2 ``parameter``; to FSDP2, a rank's experts are a whole parameter."""
        assert isinstance(parameter, DTensor)
        mesh, placements, shape = parameter.device_mesh, parameter.placements, parameter.shape
        if expert:
            mesh, placements = grid.experts["expert", "split"], (Shard(0), Shard(0))
            if grid.layout.data > 1:
                mesh = grid.experts["data", "expert", "split"]
                placements = (Replicate(), *placements)
            shape = Size((shape[0] * grid.layout.expert, *shape[1:]))
        weight = nn.Parameter(parameter.to_local().detach(), parameter.requires_grad)
        return cls(name, parameter, weight, mesh, placements, shape, parameter.stride())

    @property
    def gradient(self) -> Tensor:
        """The gradient of ``weight``; only after a backward pass."""
        assert self.weight.grad is not None
        return self.weight.grad

    def whole(self, part: Tensor) -> DTensor:
        """Wraps a tensor of the part's shape as this rank's part of a whole DTensor."""
        return DTensor.from_local(
            part, self.mesh, self.placements, run_check=False, shape=self.shape, stride=self.stride
        )

    def cut(self, whole: Tensor) -> Tensor:
        """This rank's part of a whole tensor of the parameter's shape."""
        places = self.mesh.get_coordinate() or ()
        for placement, size, place in zip(self.placements, self.mesh.shape, places, strict=True):
            if isinstance(placement, Shard):
                chunks = whole.chunk(size, placement.dim)
                whole = chunks[place] if place < len(chunks) else whole.narrow(placement.dim, 0, 0)
        return whole

    def full(self, part: Tensor) -> Tensor:
        """The whole tensor on every rank of the mesh; collective."""
        whole = self.whole(part)
        if self.mesh.ndim > 1 and (self.mesh.mesh_dim_names or ())[-1:] == ("tensor",):
            # FSDP sharded last, so it must be undone first; torch refuses another order.
            *_, last = self.placements
            whole = whole.redistribute(placements=[*[Replicate()] * (self.mesh.ndim - 1), last])
        return whole.full_tensor()

    @property
    def parts(self) -> int:
        """The number of distinct parts of the parameter."""
        sizes = zip(self.placements, self.mesh.shape, strict=True)
        return math.prod(size for placement, size in sizes if not placement.is_replicate())
