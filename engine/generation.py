"""Continues many prompts at once, each to its own end, with keys and values kept.

A prompt has a slot of one static cache. Where some have ended, others take their slots (continuous
batching, Yu et al. 2022, Orca), and what all prompts begin with is computed once. A text does not
depend on which others are written beside it: every request has random numbers of its own.

Shapes: S slots in use, B prompts that begin, T tokens, P of what they share, L of the longest so far,
K heads of keys, E their width, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol, cast

import torch
from torch import Tensor, nn

from engine.modules import backbone, head
from engine.prefixes import common
from engine.requests import Generation, Response
from engine.sampling import draw

_LEAST_SHARED = 16
"""Tokens that all prompts must begin with for them to be read once."""
_READ = 1 << 11
"""Tokens of prompts read in one pass, at most, and at least one prompt."""
_CACHED = 1 << 15
"""Tokens of all slots together, at most, and at least one slot."""
_MOST = 64
"""Slots, at most."""
_REFILL = 4
"""Slots are filled anew when one in so many is free: a prompt costs a pass of its own."""


class Text:
    """One request as it is being written."""

    def __init__(
        self, request: Generation, prompt: Sequence[int], limit: int, *, truncated: bool
    ) -> None:
        self.request = request
        self.prompt = prompt
        self.limit = limit
        """New tokens, at most."""
        self.new: list[int] = []
        """EOS among them, where it was written."""
        self._truncated = truncated
        self._logprob = 0.0
        self._tail = 8 + max((len(s) for s in request.stop), default=0)
        chance = torch.Generator().manual_seed(request.seed)
        self._uniform = torch.rand(limit, generator=chance, dtype=torch.float64).tolist()

    @property
    def length(self) -> int:
        """Tokens so far, the prompt's among them."""
        return len(self.prompt) + len(self.new)

    @property
    def uniform(self) -> float:
        """A number from [0, 1) for the next token."""
        return float(self._uniform[len(self.new)])

    def add(self, token: int, logprob: float) -> None:
        """One more, and what the model gave it."""
        self.new.append(token)
        self._logprob += logprob

    def ended(self, tokenizer: Any) -> bool:
        """Whether EOS or a stop string is there. Every token has a byte or more, so it is in the last
        ones."""
        if self.new[-1] == tokenizer.eos_token_id:
            return True
        if not self.request.stop:
            return False
        tail = tokenizer.decode(self.new[-self._tail :], skip_special_tokens=True)
        return any(s in tail for s in self.request.stop)

    def text(self, tokenizer: Any) -> str:
        """Up to the first stop string."""
        text: str = tokenizer.decode(self.new, skip_special_tokens=True)
        return text[: min((e for s in self.request.stop if (e := text.find(s)) >= 0), default=None)]

    def response(self, tokenizer: Any, *, ended: bool) -> Response:
        """The answer."""
        return Response(
            text=self.text(tokenizer),
            ids=tuple(self.new),
            logprob=self._logprob,
            tokens=len(self.new) - (self.new[-1] == tokenizer.eos_token_id),
            truncated=self._truncated,
            ended=ended,
        )


class Writer:
    """Continues texts, those with the longest prompts first."""

    def __init__(self, model: nn.Module, tokenizer: Any, *, shares: bool) -> None:
        self._model, self._tokenizer, self._shares = model, tokenizer, shares
        self._device = next(model.parameters()).device

    def write(
        self,
        texts: Sequence[Text],
        told: Callable[[int, Response], None],
        on_token: Callable[[Text], None] = lambda text: None,
    ) -> None:
        """``told`` gets the number and the answer of each text as it ends."""
        waiting = deque(sorted(range(len(texts)), key=lambda i: -len(texts[i].prompt)))
        length = max((len(t.prompt) + t.limit for t in texts), default=0)
        cache: _Cache = _OneCache(self._model, self._device)
        slots = 1
        if self._shares:
            slots = max(1, min(len(texts), _MOST, _CACHED // max(1, length)))
            shared = self._shared(texts)
            cache = _Slots(self._model, self._device, slots, length, shared)
        active: list[int] = []
        while waiting or active:
            if waiting and (slots - len(active)) * _REFILL >= slots:
                new = [waiting.popleft() for _ in range(min(slots - len(active), len(waiting)))]
                hidden = cache.begin([texts[i].prompt for i in new])
                active += new
                self._take([texts[i] for i in new], hidden)
            else:
                tokens = [texts[i].new[-1] for i in active]
                hidden = cache.go_on(tokens, [texts[i].length - 1 for i in active])
                self._take([texts[i] for i in active], hidden)
                new = list(active)
            for number in new:
                text = texts[number]
                end = text.ended(self._tokenizer)
                on_token(text)
                if end or len(text.new) == text.limit:
                    told(number, text.response(self._tokenizer, ended=end))
                    slot = active.index(number)
                    cache.move(len(active) - 1, slot)
                    active[slot] = active[-1]
                    active.pop()

    def _shared(self, texts: Sequence[Text]) -> Sequence[int]:
        """What all begin with, but for the last token of each, whose answer is asked."""
        if len(texts) < 2:
            return []
        first = texts[0].prompt
        count = min(min(common(first, t.prompt), len(t.prompt) - 1) for t in texts)
        return first[:count] if count >= _LEAST_SHARED else []

    def _take(self, texts: Sequence[Text], hidden_SD: Tensor) -> None:
        """Adds a token to each."""
        logits_SV = head(self._model)(hidden_SD).float()
        requests = [text.request for text in texts]
        token_S = draw(
            logits_SV,
            [request.temperature for request in requests],
            [request.top_p for request in requests],
            [text.uniform for text in texts],
        )
        logprob_S = -nn.functional.cross_entropy(logits_SV, token_S, reduction="none")
        for text, token, logprob in zip(texts, token_S.tolist(), logprob_S.tolist(), strict=True):
            text.add(token, logprob)


class _Cache(Protocol):
    """Keys and values of the texts in slots 0 to S - 1."""

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """Reads prompts into the next slots; the last hidden state of each, ``_BD``."""

    def go_on(self, tokens: Sequence[int], places: Sequence[int]) -> Tensor:
        """Reads a token of every slot at its place; ``_SD``."""

    def move(self, source: int, target: int) -> None:
        """The last slot takes the place of one that is done."""


class _OneCache:
    """The model's own cache, for a text at a time: attention that looks back a window, say."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._model, self._device = model, device

    def begin(self, prompts: Sequence[Sequence[int]]) -> Tensor:
        """See :class:`_Cache`."""
        self._past = None
        return self._read(list(prompts[0]))

    def go_on(self, tokens: Sequence[int], places: Sequence[int]) -> Tensor:
        """See :class:`_Cache`."""
        return self._read(list(tokens))

    def move(self, source: int, target: int) -> None:
        """Nothing: there is one slot."""

    def _read(self, tokens: list[int]) -> Tensor:
        ids = torch.tensor([tokens], device=self._device)
        model = cast("Any", backbone(self._model))
        read = model(input_ids=ids, past_key_values=self._past, use_cache=True)
        self._past = read.past_key_values
        return cast("Tensor", read.last_hidden_state[:, -1])


class _Slots:
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
        """See :class:`_Cache`. Few at a time, so that a processor's cache holds what is computed."""
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
        """See :class:`_Cache`."""
        at_S1 = torch.tensor(places)[:, None]
        self._read = max(places) + 1
        self._write = (torch.arange(len(tokens), device=self._device), at_S1[:, 0].to(self._device))
        seen_SL = torch.arange(self._read) <= at_S1
        return self._forward(torch.tensor(tokens)[:, None], at_S1, seen_SL[:, None, None])[:, 0]

    def move(self, source: int, target: int) -> None:
        """See :class:`_Cache`."""
        self._used -= 1
        if source != target:
            for both in self._layers:
                for kept in both:
                    kept[target, :, self._shared :] = kept[source, :, self._shared :]

    def update(self, key_BKTE: Tensor, value_BKTE: Tensor, layer: int) -> tuple[Tensor, Tensor]:
        """Writes where :meth:`begin` or :meth:`go_on` says; what the layer's queries may look at."""
        if layer == len(self._layers):
            slots, length = self._size
            shape = (slots, key_BKTE.shape[1], length, key_BKTE.shape[3])
            self._layers.append((key_BKTE.new_zeros(shape), value_BKTE.new_zeros(shape)))
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


def _transformers_cache(slots: _Slots) -> Any:
    """As transformers' layers ask for it."""
    from transformers.cache_utils import Cache

    class SlotCache(Cache):
        """Hands keys and values on."""

        def __init__(self) -> None:
            super().__init__(layers=[])

        def update(
            self, key_states: Tensor, value_states: Tensor, layer_idx: int, *_: Any, **__: Any
        ) -> tuple[Tensor, Tensor]:
            """See :meth:`_Slots.update`."""
            return slots.update(key_states, value_states, layer_idx)

        def get_query_offset(self, layer_idx: int = 0) -> int:
            """Asked where there is no mask: prompts from their first token on."""
            return 0

        def get_mask_sizes(self, query_length: int, layer_idx: int) -> tuple[int, int]:
            """As above."""
            return query_length, 0

    return SlotCache()
