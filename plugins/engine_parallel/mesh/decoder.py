"""A run of consecutive decoder layers as a module: one pipeline stage, or all layers.

Shapes: B rows, T positions (of this rank, with context parallelism), D width.
"""

from __future__ import annotations

import copy
from collections import ChainMap
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from engine import Batch, Loss
from engine.modeling import (
    backbone,
    document_rows,
    head,
    is_scalar,
    layers as _layers,
    loss_terms,
    mapped_head,
    plain_head,
    reads_packed,
)
from engine_parallel.mesh.body import Body
from engine_parallel.mesh.context_parallel import of_rows
from engine_parallel.mesh.grid import Grid, gathered


class Terms:
    """A step's micro-batches, their counts over all ranks, and the loss sums so far.

    Ranks that process the same samples have the same ``seed``.
    """

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.counts: dict[str, float] = {}
        self.sums: dict[str, Tensor] = {}
        self.scale: Tensor | float = 1.0
        self.seed = torch.initial_seed()

    def loss(self, terms: dict[str, Tensor]) -> Tensor:
        """Adds to the sums, and returns the loss to differentiate: Σ sum/count, scaled."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        total = sum(value / max(self.counts[name], 1.0) for name, value in terms.items())
        assert isinstance(total, Tensor)
        return total * self.scale


class Decoder(nn.Module):
    """The ``layers`` of a model, run by the model's own code, with the original parameter names.

    The first run has the embedding. The last has norm, head and objective, and its forward pass returns
    the loss of micro-batch ``number``. Each run executes the whole model's code, with its masks,
    scalings and rotary angles: layers of other runs return their input, and the state that arrives from
    the previous run replaces everything before the run's first layer.
    """

    def __init__(
        self,
        model: Any,
        structure: Body,
        objective: Loss,
        layers: range,
        grid: Grid,
        terms: Terms,
    ) -> None:
        super().__init__()
        self._objective, self._grid, self._terms = objective, grid, terms
        base: Any = backbone(model)
        self.structure = structure
        self.packed = reads_packed(model)
        self.is_first = layers.start == 0
        self.is_last = layers.stop == len(_layers(base))
        self._run = 1 + layers.start
        self._width = model.config.hidden_size
        self._arrival = (
            None if self.is_first else _Arrival(_layers(base)[0], self.structure.outputs)
        )
        self._prefix = next(n for n, m in model.named_children() if m is base)
        whole = self.is_first and self.is_last
        self.add_module(self._prefix, base if whole else self._part(base, layers))
        self.layers = [_layers(self.body)[i] for i in layers]
        output_head = head(model) if is_scalar(model) else plain_head(model)
        self.head_name = next(n for n, m in model.named_children() if m is output_head)
        if self.is_last:
            self.add_module(self.head_name, output_head)

    @property
    def body(self) -> Any:
        """The backbone, with the parts that this run has."""
        return getattr(self, self._prefix)

    def forward(self, state: Tensor, position_ids: Tensor, number: Tensor) -> Tensor:
        """``state`` is ``input_ids_BT`` for the first run, ``hidden_BTD`` for others.

        ``position_ids_BT`` and ``input_ids_BT`` are of whole rows, padded to divide over ranks; of one
        document each, whose positions the model counts itself, unless it reads packed ones.
        """
        # Dropout must differ between ranks with different layers or parts of a row.
        reseed(self._terms.seed, int(number[0]), self._run, self._grid.place("context"))
        own_BT = self._own(position_ids)
        inputs: dict[str, Tensor] = {"position_ids": own_BT} if self.packed else {}
        if self._arrival is None:
            inputs["input_ids"] = self._own(state)
        else:
            self._arrival.state = state
            inputs["inputs_embeds"] = state.new_zeros(*own_BT.shape, self._width)
        with of_rows(position_ids):
            if self._grid.layout.context > 1:
                # As long as the keys of whole rows; `of_rows` keeps documents apart.
                inputs["attention_mask"] = torch.ones_like(position_ids)
            made: Tensor = self.body(**inputs, use_cache=False).last_hidden_state
        return self._loss(made, int(number[0])) if self.is_last else made

    def _loss(self, state: Tensor, number: int) -> Tensor:
        grid = self._grid
        if grid.layout.tensor > 1:
            state = gathered(state, grid.dense["tensor"], 1)
        if grid.layout.context > 1:
            state = gathered(state, grid.degrees["context"], 1)
        # From here all ranks have the same rows, so they must draw the same numbers.
        reseed(self._terms.seed, number)
        batch = self._terms.batches[number]
        ids_BT = batch.inputs["input_ids"]
        if self.packed:
            hidden_BTD = state[: ids_BT.shape[0], : ids_BT.shape[1]]
        else:
            _, row_BT, place_BT = document_rows(ids_BT, batch.inputs["position_ids"])
            hidden_BTD = state[row_BT, place_BT]
        own_head = mapped_head(getattr(self, self.head_name))
        terms = loss_terms(self._objective, hidden_BTD, own_head, batch)
        # Every context rank computes this same loss, and their gradients are summed.
        return self._terms.loss(terms) / grid.layout.context

    def _own(self, whole_BT: Tensor) -> Tensor:
        """This context rank's part of the rows."""
        return whole_BT.chunk(self._grid.layout.context, 1)[self._grid.place("context")]

    def _part(self, module: Any, layers: range, path: str = "") -> Any:
        """A copy of the backbone, or its module at ``path``, with only this run's layers."""
        part: Any = copy.copy(module)
        part._modules = dict(module._modules)
        its = self.structure
        if path != its.path:
            name = its.path.removeprefix(path).lstrip(".").split(".")[0]
            inner = self._part(getattr(module, name), layers, f"{path}.{name}".lstrip("."))
            setattr(part, name, inner)
            return part
        every = _layers(module)
        kept: list[nn.Module] = [
            layer if i in layers else _Elsewhere(layer, its.outputs)
            for i, layer in enumerate(every)
        ]
        if self._arrival is not None:
            kept[0] = self._arrival
            for name in its.embeddings:
                setattr(part, name, _Zero())
            for name in its.norms[:-1]:
                setattr(part, name, _Unchanged())
        setattr(part, its.layers, nn.ModuleList(kept))
        if not self.is_last:
            for name in its.norms[-1:]:
                setattr(part, name, _Unchanged())
        return part


class _Elsewhere(nn.Module):
    """Replaces a layer of another run: returns its input, and keeps the layer's plain attributes.

    ``outputs``: see :class:`Body`.
    """

    def __init__(self, layer: nn.Module, outputs: int | None) -> None:
        super().__init__()
        self.outputs = outputs
        classes = [cls for cls in type(layer).__mro__ if cls not in nn.Module.__mro__]
        known = ChainMap(*map(dict, map(vars, (layer, *classes))))
        kept = {
            n: v for n, v in known.items() if isinstance(v, str | int | float) and n[:2] != "__"
        }
        vars(self).update(kept | {"training": True})

    def forward(self, state: Tensor, *_: Any, **__: Any) -> Any:
        return state if self.outputs is None else (state, *[None] * (self.outputs - 1))


class _Unchanged(nn.Module):
    """Replaces a norm of another run."""

    def forward(self, state: Tensor, *_: Any, **__: Any) -> Tensor:
        return state


class _Zero(nn.Module):
    """Replaces an embedding of another run, whose output the state that arrives replaces anyway."""

    def forward(self, *_: Any, **__: Any) -> Tensor:
        return torch.zeros(())


class _Arrival(_Elsewhere):
    """Replaces the layer before a run's first one: returns the state from the previous run."""

    state: Tensor

    def forward(self, state: Tensor, *_: Any, **__: Any) -> Any:
        return super().forward(self.state)


def reseed(*numbers: int) -> None:
    """Seeds torch's generators from these numbers, so that a resumed run draws the same."""
    (seed,) = np.random.SeedSequence(numbers).generate_state(1, np.uint64)
    torch.manual_seed(int(seed))


def cut(layers: int, runs: int) -> list[range]:
    """Divides the layers into runs that are as even as possible; the first ones are longer by one."""
    size, more = divmod(layers, runs)
    ends = [size * (i + 1) + min(i + 1, more) for i in range(runs)]
    return [range(a, b) for a, b in zip([0, *ends], ends, strict=False)]
