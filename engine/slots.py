"""Keys and values of texts that are being written, each in a slot of its own.

Shapes: S slots in use, B prompts that begin, T tokens, P of what they share, L of the longest so far,
K heads of keys, E their width, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from engine.modules import backbone

_READ = 1 << 11
"""Tokens of prompts read in one pass, at most, and at least one prompt."""


class Cache(Protocol):
    """Keys and values of the texts in slots 0 to S - 1."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads prompts into the next slots; the last hidden state of each, ``_BD``."""

    def go_on(self, tokens: Sequence[int], places: Sequence[int]) -> Tensor:
        """Reads a token of every slot at its place; ``_SD``."""

    def move(self, source: int, target: int) -> None:
        """The last slot takes the place of one that is done."""


class OneCache:
    """The model's own cache, for a text at a time: attention that looks back a window, say.

    A model that has none of keys and values, as one with states, reads the whole text anew.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._model, self._device = model, device

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """See :class:`Cache`."""
        self._past, self._text = None, list(prompts[0])
        return self._read(self._text)

    def go_on(self, tokens: Sequence[int], places: Sequence[int]) -> Tensor:
        """See :class:`Cache`."""
        self._text += tokens
        return self._read(self._text if self._past is None else list(tokens))

    def move(self, source: int, target: int) -> None:
        """Nothing: there is one slot."""

    def _read(self, tokens: list[int]) -> Tensor:
        ids = torch.tensor([tokens], device=self._device)
        model = cast("Any", backbone(self._model))
        read = model(input_ids=ids, past_key_values=self._past, use_cache=True)
        self._past = getattr(read, "past_key_values", None)
        return cast("Tensor", read.last_hidden_state[:, -1])


class Slots:
    """Static tensors ``_SKLE`` of every layer, written in place."""

    def __init__(
        self,
        model: nn.Module,
        device: torch.device,
        slots: int,
        length: int,
        shared: Sequence[int],
    ) -> None:
        self._model, self._device = model, device
        self._size = (slots, length)
        self._layers: list[tuple[Tensor, Tensor]] = []
        self._used = 0
        self._shared = 0
        self._write: tuple[Any, Any] = (0, 0)
        self._read = 0
        self._cache = _transformers_cache(self)
        if shared:
            self.begin([shared])
            self._shared, self._used = len(shared), 0
            for both in self._layers:
                for kept in both:
                    kept[1:, :, : self._shared] = kept[:1, :, : self._shared]

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """See :class:`Cache`. Few at a time, so that a processor's cache holds what is computed."""
        some = max(1, _READ // max(len(prompt) for prompt in prompts))
        parts = [prompts[i : i + some] for i in range(0, len(prompts), some)]
        return torch.cat([self._begin(part) for part in parts])

    def _begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Padded on the right, where nobody looks."""
        past = self._shared
        lengths = [len(prompt) - past for prompt in prompts]
        width, rows = max(lengths), range(len(prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        for b in rows:
            ids[b, : lengths[b]] = torch.tensor(prompts[b][past:])
        slots = slice(self._used, self._used + len(prompts))
        self._write, self._read = (slots, slice(past, past + width)), past + width
        places_T = torch.arange(past, past + width)
        seen_B1TL = None  # all before: half the work, for a kernel that knows
        if past:
            seen_TL = torch.arange(past + width) <= places_T[:, None]
            seen_B1TL = seen_TL.expand(len(rows), 1, -1, -1)
        hidden_BTD = self._forward(ids, places_T.expand_as(ids), seen_B1TL)
        self._used += len(prompts)
        return hidden_BTD[list(rows), [n - 1 for n in lengths]]

    def go_on(self, tokens: Sequence[int], places: Sequence[int]) -> Tensor:
        """See :class:`Cache`."""
        at_S1 = torch.tensor(places)[:, None]
        self._read = max(places) + 1
        self._write = (torch.arange(len(tokens), device=self._device), at_S1[:, 0].to(self._device))
        seen_SL = torch.arange(self._read) <= at_S1
        return self._forward(torch.tensor(tokens)[:, None], at_S1, seen_SL[:, None, None])[:, 0]

    def move(self, source: int, target: int) -> None:
        """See :class:`Cache`."""
        self._used -= 1
        if source != target:
            for both in self._layers:
                for kept in both:
                    kept[target, :, self._shared :] = kept[source, :, self._shared :]

    def update(self, key_BKTE: Tensor, value_BKTE: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Writes where :meth:`begin` or :meth:`go_on` says; what the layer's queries may look at."""
        if layer == len(self._layers):
            slots, length = self._size
            key, value = (  # of a width each: latent attention has narrower values
                new.new_zeros(slots, new.shape[1], length, new.shape[3])
                for new in (key_BKTE, value_BKTE)
            )
            self._layers.append((key, value))
        rows, at = self._write
        seen: list[Tensor] = []
        for kept, new in zip(self._layers[layer], (key_BKTE, value_BKTE), strict=True):
            if isinstance(rows, slice):
                kept[rows, :, at] = new
                seen.append(kept[rows, :, : self._read])
            else:
                kept[rows, :, at] = new[:, :, 0]
                seen.append(kept[: len(rows), :, : self._read])
        return seen[0], seen[1]

    def _forward(self, ids_BT: Tensor, places_BT: Tensor, seen_B1TL: Tensor | None) -> Tensor:
        read = cast("Any", backbone(self._model))(
            input_ids=ids_BT.to(self._device),
            position_ids=places_BT.to(self._device),
            attention_mask=None if seen_B1TL is None else seen_B1TL.to(self._device),
            past_key_values=self._cache,
            use_cache=True,
        )
        return cast("Tensor", read.last_hidden_state)


def _transformers_cache(slots: Slots) -> Any:
    """As transformers' layers ask for it."""
    from transformers.cache_utils import Cache as TransformersCache

    class SlotCache(TransformersCache):
        """Hands keys and values on."""

        def __init__(self) -> None:
            super().__init__(layers=[])

        def update(
            self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
        ) -> tuple[Tensor, Tensor]:
            """See :meth:`Slots.update`."""
            return slots.update(key_states, value_states, layer_idx)

        def get_query_offset(self, layer_idx: int = 0) -> int:
            """Asked where there is no mask: prompts from their first token on."""
            return 0

        def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
            """As above."""
            return query_length, 0

    return SlotCache()
