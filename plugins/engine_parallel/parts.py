"""What this rank has of a parameter, and how the ranks' parts make the whole one."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Size, Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Placement, Replicate, Shard

from engine_parallel.grid import Grid


@dataclass(frozen=True, slots=True)
class Part:
    """A parameter's part under its name in the whole model; ``weight`` shares FSDP's memory."""

    name: str
    parameter: DTensor
    weight: Tensor
    mesh: DeviceMesh
    placements: tuple[Placement, ...]
    shape: Size
    stride: tuple[int, ...]

    @classmethod
    def of(cls, name: str, parameter: nn.Parameter, grid: Grid, *, expert: bool) -> Part:
        """``parameter`` as FSDP2 has it; an expert's is one rank's own whole to FSDP2."""
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

    def whole(self, part: Tensor) -> DTensor:
        """A tensor of the part's shape as a part of one of the whole's shape."""
        return DTensor.from_local(
            part, self.mesh, self.placements, run_check=False, shape=self.shape, stride=self.stride
        )

    def full(self, part: Tensor) -> Tensor:
        """The whole tensor on every rank of the mesh; collective."""
        whole = self.whole(part)
        if self.mesh.ndim > 1 and self.mesh.mesh_dim_names[-1] == "tensor":
            # FSDP's cut was made last: it is undone first, or torch complains.
            *_, last = self.placements
            whole = whole.redistribute(placements=[*[Replicate()] * (self.mesh.ndim - 1), last])
        return whole.full_tensor()

    @property
    def parts(self) -> int:
        """Into how many different parts the parameter is cut."""
        sizes = zip(self.placements, self.mesh.shape, strict=True)
        return math.prod(size for placement, size in sizes if not placement.is_replicate())
