"""Key-value caches with a slot for each text that is being generated.

Shapes: S slots in use, B new prompts, T tokens, P shared prefix, L longest text so far, K key-value
heads, E head width, D hidden width.
"""

from __future__ import annotations

from collections.abc import Sequence
from inspect import signature
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from engine.modeling import backbone

_READ = 1 << 11
"""Most prompt tokens in one forward pass; there is always one prompt."""


class Cache(Protocol):
    """Keys and values of the texts in slots 0 to S - 1."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads prompts into the next slots; returns the last hidden state of each, ``_BD``."""

    def go_on(self, tokens: Sequence[int], places: Sequence[int]) -> Tensor:
        """Reads one token for every slot at its position; returns hidden states ``_SD``."""

    def move(self, source: int, target: int) -> None:
        """Moves the last slot to the place of a finished one."""


class OneCache:
    """The model's own cache, for one text at a time, such as with sliding-window attention.

    A model without a key-value cache reads the whole text at each token.
    """

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._model, self._device = cast("Any", backbone(model)), device
        self._takes_places = "position_ids" in signature(self._model.forward).parameters
        self._caches = True

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """See :class:`Cache`."""
        self._past, self._text = None, list(prompts[0])
        try:
            return self._read(self._text)
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, RuntimeError, ValueError):
            # transformers can make no cache of its config, or one that it cannot use.
            if not self._caches:
                raise
            self._caches = False
            return self._read(self._text)

    def go_on(self, tokens: Sequence[int], places: Sequence[int]) -> Tensor:
        """See :class:`Cache`."""
        self._text += tokens
        return self._read(self._text if self._past is None else list(tokens))

    def move(self, source: int, target: int) -> None:
        """Does nothing, as there is one slot."""

    def _read(self, tokens: list[int]) -> Tensor:
        ids = torch.tensor([tokens], device=self._device)
        places: dict[str, Tensor] = {}
        if self._takes_places:  # a cache whose first layer has no keys tells a length of 0
            end = len(self._text)
            places = {
                "position_ids": torch.arange(end - len(tokens), end, device=self._device)[None]
            }
        read = self._model(
            input_ids=ids, past_key_values=self._past, use_cache=self._caches, **places
        )
        self._past = getattr(read, "past_key_values", None)
        return cast("Tensor", read.last_hidden_state[:, -1])


class Slots:
    """Static key and value tensors ``_SKLE`` of every layer, written in place."""

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
        """See :class:`Cache`. Reads few prompts at a time, so that activations fit into a CPU cache."""
        some = max(1, _READ // max(len(prompt) for prompt in prompts))
        parts = [prompts[i : i + some] for i in range(0, len(prompts), some)]
        return torch.cat([self._begin(part) for part in parts])

    def _begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads prompts in one pass; padding on the right is hidden by causal attention."""
        past = self._shared
        lengths = [len(prompt) - past for prompt in prompts]
        width, rows = max(lengths), range(len(prompts))
        ids = torch.zeros(len(prompts), width, dtype=torch.long)
        for row in rows:
            ids[row, : lengths[row]] = torch.tensor(prompts[row][past:])
        slots = slice(self._used, self._used + len(prompts))
        self._write, self._read = (slots, slice(past, past + width)), past + width
        places_T = torch.arange(past, past + width)
        seen_B1TL = None  # causal: fused kernels then do half the work
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
        """Stores a layer's new keys and values, and returns those that its queries attend to."""
        if layer == len(self._layers):
            slots, length = self._size
            key, value = (  # widths may differ: latent attention has narrower values
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
    """An adapter of the slots to transformers' cache interface."""
    from transformers.cache_utils import Cache as TransformersCache

    class SlotCache(TransformersCache):
        """Forwards keys and values to the slots."""

        def __init__(self) -> None:
            super().__init__(layers=[])

        def update(
            self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
        ) -> tuple[Tensor, Tensor]:
            """See :meth:`Slots.update`."""
            return slots.update(key_states, value_states, layer_idx)

        def get_query_offset(self, layer_idx: int = 0) -> int:
            """0: without a mask, prompts are read from their first token."""
            return 0

        def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
            """As above."""
            return query_length, 0

    return SlotCache()
