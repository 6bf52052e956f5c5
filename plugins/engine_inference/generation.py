"""Generates continuations of many prompts at once, with a key-value cache.

Each text has a slot of one static cache. When a text ends, the next prompt takes its slot (continuous
batching, Yu et al. 2022, Orca), and a prefix that all prompts share is computed once. Texts do not
depend on one another, as every request has its own random numbers.

Shapes: S slots in use, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence, Set
from typing import Any

import torch
from torch import Tensor, nn

from engine import Generation, Response
from engine.modeling import (
    TAIL,
    continuation,
    head,
    through,
)
from engine_inference.kv_slots import Cache, OneCache, Slots
from engine_inference.prefix_trees import common
from engine_inference.sampling import draw

_LEAST_SHARED = 16
"""Shortest common prefix, in tokens, that is computed once for all prompts."""
_CACHED = 1 << 15
"""Most tokens of all slots together; there is always one slot."""
_MOST = 64
"""Most slots."""
_REFILL = 4
"""Slots are refilled once one in so many is free, as new prompts cost a forward pass of their own."""
_BROKEN = "\N{REPLACEMENT CHARACTER}"
"""What tokens decode to that hold only part of a character."""
_LONGEST_WINDOW = 32
"""Tokens without a whole character after which their bytes are taken to be invalid text."""


class Text:
    """A request and the text generated for it so far."""

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
        """Most new tokens."""
        self.new: list[int] = []
        """The generated tokens, including an end token."""
        self.ended = False
        """Whether a token of ``ends`` or a stop string has ended the text."""
        self._tokenizer, self._truncated, self._ends = tokenizer, truncated, ends
        self._logprob = 0.0
        self._stops = _Stops(request.stop, tokenizer, prompt)
        chance = torch.Generator().manual_seed(request.seed)
        self._uniform = torch.rand(limit, generator=chance, dtype=torch.float64).tolist()

    @property
    def length(self) -> int:
        """Number of tokens so far, including the prompt."""
        return len(self.prompt) + len(self.new)

    @property
    def uniform(self) -> float:
        """A random number from [0, 1) for drawing the next token."""
        return float(self._uniform[len(self.new)])

    def add(self, token: int, logprob: float) -> None:
        """Appends a token with its log-probability."""
        self.new.append(token)
        self._logprob += logprob
        self.ended = token in self._ends or self._stops.reached(self.new)

    @property
    def text(self) -> str:
        """The text up to the first stop string."""
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
    """Finds stop strings in a growing text, even if tokens hold parts of characters.

    Each check decodes a few tokens, from the last but one that ended with a whole character, as some
    decoders drop a character whose first byte is missing, or strip a text's first space. The first
    check includes the prompt's last tokens.
    """

    def __init__(self, stops: Sequence[str], tokenizer: Any, prompt: Sequence[int]) -> None:
        self._stops, self._tokenizer = stops, tokenizer
        self._before = list(prompt[-TAIL:])
        self._longest = max(map(len, stops), default=0)
        self._recent = ""
        """The last whole characters, as many as a stop string may span."""
        self._start = 0
        """The token at which decoding starts."""
        self._whole = len(self._before)
        """Number of tokens up to the last whole character."""
        self._known = len(self._decoded(self._before).rstrip(_BROKEN))
        """Number of characters after ``_start`` that have been added to ``_recent``."""

    def reached(self, tokens: Sequence[int]) -> bool:
        """Whether the text contains a stop string; call it after each token."""
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
    """Generates texts, those with the longest prompts first."""

    def __init__(self, model: nn.Module, *, shares: bool) -> None:
        self._model, self._shares = model, shares
        self._device = next(model.parameters()).device

    def write(
        self,
        texts: Sequence[Text],
        told: Callable[[int, Response], None],
        on_token: Callable[[Text], None] = lambda text: None,
    ) -> None:
        """Generates all texts; calls ``told`` with the index and response of each as it ends."""
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
        """The common prefix of all prompts, without any prompt's last token, which must be read."""
        if len(texts) < 2:
            return []
        first = texts[0].prompt
        count = min(min(common(first, t.prompt), len(t.prompt) - 1) for t in texts)
        return first[:count] if count >= _LEAST_SHARED else []

    def _take(self, texts: Sequence[Text], hidden_SD: Tensor) -> None:
        """Draws a token for each text, and appends it."""
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
