"""The grid of processes, and this process's place in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from engine import Layout

CUTS = ("tensor", "pipeline", "context", "expert")
"""Degrees that divide the model itself."""


@dataclass(frozen=True, slots=True)
class Grid:
    """Ranks are numbered along ``tensor`` first, ``pipeline`` last.

    Three meshes have the same ranks: ``dense``, where all ranks of ``split`` shard the dense weights;
    ``experts``, where the ranks of ``expert`` hold different experts; and one with all degrees.
    """

    layout: Layout
    device: torch.device
    dense: DeviceMesh
    experts: DeviceMesh
    degrees: DeviceMesh

    @classmethod
    def of(cls, layout: Layout, device: torch.device) -> Grid:
        """Creates the grid of all processes; collective."""
        within = layout.shard * layout.context
        dense = {"split": layout.expert * within, "tensor": layout.tensor}
        experts = {"expert": layout.expert, "split": within, "tensor": layout.tensor}
        names = ("expert", "shard", "context", "tensor")
        degrees = {name: getattr(layout, name) for name in names}
        meshes = [
            init_device_mesh(
                device.type,
                (layout.pipeline, layout.data, *sizes.values()),
                mesh_dim_names=("pipeline", "data", *sizes),
            )
            for sizes in (dense, experts, degrees)
        ]
        return cls(layout, device, *meshes)

    @property
    def is_cut(self) -> bool:
        """Whether the model itself is divided."""
        return self.divides_layers or self.layout.expert > 1

    @property
    def divides_layers(self) -> bool:
        """Whether no rank computes all layers of a row by itself; experts may be anywhere."""
        return self.layout.tensor * self.layout.pipeline * self.layout.context > 1

    @property
    def data_rank(self) -> int:
        """This rank's index among the ranks that have samples of their own."""
        data, expert, shard = (self.place(n) for n in ("data", "expert", "shard"))
        return (data * self.layout.expert + expert) * self.layout.shard + shard

    def place(self, degree: str) -> int:
        """This rank's coordinate along a degree."""
        return self.degrees[degree].get_local_rank()

    def copies(self, mesh: DeviceMesh) -> DeviceMesh:
        """The dimensions of ``dense`` or ``experts`` for FSDP2: ``split``, and ``data`` if above 1."""
        return mesh["data", "split"] if self.layout.data > 1 else mesh["split"]


def gathered(part: torch.Tensor, mesh: DeviceMesh, dim: int) -> torch.Tensor:
    """All-gathers the parts of all ranks of a one-dimensional mesh, joined along ``dim``.

    The backward pass reduce-scatters the ranks' gradients.
    """
    whole = DTensor.from_local(part, mesh, [Shard(dim)], run_check=False)
    joined: torch.Tensor = whole.redistribute(placements=[Replicate()]).to_local(
        grad_placements=[Partial()]
    )
    return joined
