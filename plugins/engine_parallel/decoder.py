"""A run of a decoder's layers as a module of its own: what a pipeline rank holds, or all of them.

Shapes: B rows, T positions, D width; T is this rank's part where ranks share rows.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from engine import Batch, Objective, SpecError, head, reads_packed
from engine_parallel.grid import Grid, gathered

_PARTS = ("embed_tokens", "layers", "norm", "rotary_emb")


class Terms:
    """The micro-batches of a step, their counts over all ranks, and the sums found so far."""

    def __init__(self) -> None:
        self.batches: list[Batch] = []
        self.counts: dict[str, float] = {}
        self.sums: dict[str, Tensor] = {}
        self.scale: Tensor | float = 1.0

    def loss(self, terms: dict[str, Tensor]) -> Tensor:
        """Notes the sums; what to derive: Σ sum/count, scaled."""
        for name, value in terms.items():
            self.sums[name] = self.sums.get(name, 0) + value.detach()
        total = sum(value / max(self.counts[name], 1.0) for name, value in terms.items())
        assert isinstance(total, Tensor)
        return total * self.scale


class Decoder(nn.Module):
    """Layers ``first`` to ``last`` of a model, with the parameters' own names.

    The first run has the embedding; the last has norm, head and the objective, and its forward
    gives the loss of micro-batch ``number``.
    """

    def __init__(
        self, model: Any, objective: Objective, layers: range, grid: Grid, terms: Terms
    ) -> None:
        super().__init__()
        base = model.base_model
        check(model)
        self._config = model.config
        self._objective, self._grid, self._terms = objective, grid, terms
        self.is_first = layers.start == 0
        self.is_last = layers.stop == len(base.layers)
        body: Any = nn.Module()
        body.layers = nn.ModuleDict({str(i): base.layers[i] for i in layers})
        body.rotary_emb = base.rotary_emb
        self.add_module(model.base_model_prefix, body)
        self._body = (body,)  # in a tuple, or the parameters would have two names
        output_head = head(model)
        self.head_name = next(n for n, m in model.named_children() if m is output_head)
        if self.is_first:
            body.embed_tokens = base.embed_tokens
        if self.is_last:
            body.norm = base.norm
            self.add_module(self.head_name, output_head)

    @property
    def body(self) -> Any:
        """The module of embedding, layers and norm."""
        return self._body[0]

    def forward(self, state: Tensor, position_ids: Tensor, number: Tensor) -> Tensor:
        """``state`` is ``input_ids_BT`` for the first run, ``hidden_BTD`` for others.

        ``position_ids_BT`` and ``input_ids_BT`` are of whole rows, padded so that ranks can share.
        """
        grid, body = self._grid, self.body
        own_BT = _own(position_ids, grid)
        if self.is_first:
            state = body.embed_tokens(_own(state, grid))
        rotary = body.rotary_emb(state, position_ids=own_BT)
        mask = self._mask(state, own_BT)
        for layer in body.layers.values():
            state = layer(
                state,
                attention_mask=mask,
                position_embeddings=rotary,
                position_ids=own_BT,
                whole_position_ids=position_ids,
                use_cache=False,
            )
        if not self.is_last:
            return state
        return self._loss(body.norm(state), int(number[0]))

    def _loss(self, state: Tensor, number: int) -> Tensor:
        grid = self._grid
        if grid.layout.tensor > 1:
            state = gathered(state, grid.dense["tensor"], 1)
        if grid.layout.context > 1:
            state = gathered(state, grid.degrees["context"], 1)
        batch = self._terms.batches[number]
        rows, length = next(iter(batch.inputs.values())).shape
        own_head = getattr(self, self.head_name)
        terms = self._objective.loss(state[:rows, :length], own_head, batch)
        # Every context rank computes the same loss, and their gradients are summed.
        return self._terms.loss(terms) / grid.layout.context

    def _mask(self, state: Tensor, position_ids: Tensor) -> Any:
        from transformers.masking_utils import create_causal_mask

        if self._grid.layout.context > 1:
            return None  # the attention over shared rows makes its own
        rows, length = position_ids.shape
        return create_causal_mask(
            config=self._config,
            inputs_embeds=state.new_empty(rows, length, 0),
            attention_mask=None,
            past_key_values=None,
            position_ids=position_ids,
        )


def check(model: Any) -> None:
    """Raises SpecError for a model that is not built as these runs of layers want it."""
    if not reads_packed(model):
        raise SpecError(
            f"a {model.config.model_type} cannot be cut up: it does not keep packed documents apart",
            mend="use only the degrees data and shard, or a model built like llama",
        )
    base = model.base_model
    missing = [part for part in _PARTS if not hasattr(base, part)]
    if missing:
        raise SpecError(
            f"a {model.config.model_type} cannot be cut up: it has no {', '.join(missing)}",
            mend="use only the degrees data and shard, or a model built like llama",
        )


def cut(layers: int, runs: int) -> list[range]:
    """Runs of layers, as even as can be; the first ones have one more."""
    size, more = divmod(layers, runs)
    ends = [size * (i + 1) + min(i + 1, more) for i in range(runs)]
    return [range(a, b) for a, b in zip([0, *ends], ends, strict=False)]


def _own(whole_BT: Tensor, grid: Grid) -> Tensor:
    """This context rank's part of the rows; tensor ranks share what comes out of the embedding."""
    return whole_BT.chunk(grid.layout.context, 1)[grid.place("context")]
