"""The processes as a grid, and this process's place in it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard

from engine import Layout


@dataclass(frozen=True, slots=True)
class Grid:
    """Ranks count through ``tensor`` first, ``pipeline`` last.

    The same ranks are seen as three meshes: for dense weights, which all ranks of ``split`` share;
    for experts, of which the ranks of ``expert`` hold different ones; and with all degrees apart.
    """

    layout: Layout
    dense: DeviceMesh
    experts: DeviceMesh
    degrees: DeviceMesh

    @classmethod
    def of(cls, layout: Layout, device: torch.device) -> Grid:
        """Collective."""
        n = layout
        dense = {"split": n.expert * n.shard * n.context, "tensor": n.tensor}
        experts = {"expert": n.expert, "split": n.shard * n.context, "tensor": n.tensor}
        degrees = {"expert": n.expert, "shard": n.shard, "context": n.context, "tensor": n.tensor}
        meshes = [
            init_device_mesh(
                device.type,
                (n.pipeline, n.data, *sizes.values()),
                mesh_dim_names=("pipeline", "data", *sizes),
            )
            for sizes in (dense, experts, degrees)
        ]
        return cls(layout, *meshes)

    @property
    def data_rank(self) -> int:
        """Among the ranks with samples of their own."""
        data, expert, shard = (self.place(n) for n in ("data", "expert", "shard"))
        return (data * self.layout.expert + expert) * self.layout.shard + shard

    def place(self, degree: str) -> int:
        """This rank's coordinate."""
        return self.degrees[degree].get_local_rank()

    def copies(self, mesh: DeviceMesh) -> DeviceMesh:
        """Of ``dense`` or ``experts``, what FSDP2 takes: ``split``, and ``data`` around it."""
        return mesh["data", "split"] if self.layout.data > 1 else mesh["split"]


def gathered(part: torch.Tensor, mesh: DeviceMesh, dim: int) -> torch.Tensor:
    """The parts of all ranks of a one-dimensional mesh, joined along ``dim``.

    Backwards, the ranks' gradients of the whole are summed and parted.
    """
    whole = DTensor.from_local(part, mesh, [Shard(dim)], run_check=False)
    joined: torch.Tensor = whole.redistribute(placements=[Replicate()]).to_local(
        grad_placements=[Partial()]
    )
    return joined
