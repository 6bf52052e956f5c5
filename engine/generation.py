"""Continues many prompts at once, each to its own end, with keys and values kept.

A prompt has a slot of one static cache. Where some have ended, others take their slots (continuous
batching, Yu et al. 2022, Orca), and what all prompts begin with is computed once. A text does not
depend on which others are written beside it: every request has random numbers of its own.

Shapes: S slots in use, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn

from engine.encoding import TAIL, continuation
from engine.modules import head, through
from engine.prefixes import common
from engine.requests import Generation, Response
from engine.sampling import draw
from engine.slots import Cache, OneCache, Slots

_LEAST_SHARED = 16
"""Tokens that all prompts must begin with for them to be read once."""
_CACHED = 1 << 15
"""Tokens of all slots together, at most, and at least one slot."""
_MOST = 64
"""Slots, at most."""
_REFILL = 4
"""Slots are filled anew when one in so many is free: a prompt costs a pass of its own."""
_BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What tokens are decoded to that hold a part of a character."""
_LONGEST_WINDOW = 32
"""Tokens without the end of a character, after which they are taken for no text."""


class Text:
    """One request as it is being written."""

    def __init__(
        self,
        request: Generation,
        prompt: Sequence[int],
        limit: int,
        tokenizer: Any,
        ends: Set[int],
        *,
        truncated: bool = False,
    ) -> None:
        self.request = request
        self.prompt = prompt
        self.limit = limit
        """New tokens, at most."""
        self.new: list[int] = []
        """The token that ends it among them, where it was written."""
        self.ended = False
        """By one of the tokens that ``ends`` has, or a stop string."""
        self._tokenizer, self._truncated, self._ends = tokenizer, truncated, ends
        self._logprob = 0.0
        self._stops = _Stops(request.stop, tokenizer, prompt)
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
        self.ended = token in self._ends or self._stops.reached(self.new)

    @property
    def text(self) -> str:
        """Up to the first stop string."""
        text = continuation(self._tokenizer, self.prompt, self.new)
        return text[: min((e for s in self.request.stop if (e := text.find(s)) >= 0), default=None)]

    @property
    def response(self) -> Response:
        """The answer."""
        return Response(
            text=self.text,
            ids=tuple(self.new),
            logprob=self._logprob,
            tokens=len(self.new) - (self.new[-1] in self._ends),
            truncated=self._truncated,
            ended=self.ended,
        )


class _Stops:
    """Finds stop strings in a text as it grows, whatever parts of characters its tokens hold.

    A few tokens are decoded each time, from the last but one that ended with a whole character: some
    decoders give nothing of a character whose first byte is missing, or strip a text's first space.
    The prompt's last tokens are decoded with the first.
    """

    def __init__(self, stops: Sequence[str], tokenizer: Any, prompt: Sequence[int]) -> None:
        self._stops, self._tokenizer = stops, tokenizer
        self._before = list(prompt[-TAIL:])
        self._longest = max(map(len, stops), default=0)
        self._recent = ""
        """The last whole characters: as many as may belong to a stop string."""
        self._start = 0
        """The token from which is decoded."""
        self._whole = len(self._before)
        """Tokens up to the last whole character."""
        self._known = len(self._decoded(self._before).rstrip(_BROKEN))
        """Characters from ``_start`` on that are in ``_recent`` or were."""

    def reached(self, tokens: Sequence[int]) -> bool:
        """Whether the text has a stop string; asked after each token."""
        if not self._stops:
            return False
        tokens = [*self._before, *tokens]
        window = self._decoded(tokens)
        whole = window.rstrip(_BROKEN)
        text = self._recent + window[self._known :]
        if len(whole) > self._known:
            self._recent = (self._recent + whole[self._known :])[-self._longest :]
            self._known = len(whole)
        if whole == window or len(tokens) - self._whole > _LONGEST_WINDOW:
            self._start, self._whole = self._whole, len(tokens)
            self._known = len(self._decoded(tokens).rstrip(_BROKEN))
        return any(stop in text for stop in self._stops)

    def _decoded(self, tokens: Sequence[int]) -> str:
        text: str = self._tokenizer.decode(tokens[self._start :], skip_special_tokens=True)
        return text


class Writer:
    """Continues texts, those with the longest prompts first."""

    def __init__(self, model: nn.Module, *, shares: bool) -> None:
        self._model, self._shares = model, shares
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
        cache: Cache = OneCache(self._model, self._device)
        slots = 1
        if self._shares:
            slots = max(1, min(len(texts), _MOST, _CACHED // max(1, length)))
            shared = self._shared(texts)
            cache = Slots(self._model, self._device, slots, length, shared)
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
                on_token(text)
                if text.ended or len(text.new) == text.limit:
                    told(number, text.response)
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
        logits_SV = through(head(self._model), hidden_SD).float()
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
