"""A causal language model as evaluators, rollouts and ``generate`` use it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine.attack import attack
from engine.conversation import ends, example_tokens
from engine.data.records import Said, Tools
from engine.encoding import boundary, encoder, opened
from engine.generation import Text, Writer
from engine.likelihood import Asked, Scorer
from engine.modules import context_of, hidden_states, is_marked, scalar_head, through
from engine.plan import SEQUENCE
from engine.requests import (
    Attack,
    Generation,
    LogLikelihood,
    Request,
    Response,
    Rolling,
    Value,
)
from engine.trial import examine

_LEAST_ROOM = 4
"""Of the context a prompt has at least one part of so many, however long the answer may become."""


@dataclass(frozen=True, slots=True)
class Rollout:
    """An answer's ids, those of its end among them where it ``ended`` by itself, and its text."""

    tokens: list[int]
    ended: bool
    text: str


class LanguageModel:
    """Answers requests in batches of at most ``batch_tokens`` tokens, the longest first: on a CPU,
    where a batch's activations should fit into a cache, 1024, elsewhere 16384.

    What several requests begin with is computed once: see :mod:`engine.prefixes`. ``progress`` gets
    how much of a long call is done, and of how much. Raises SpecError for a model that would be
    computed wrongly: see :func:`engine.trial.examine`.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        context: int | None = None,
        batch_tokens: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        if not is_marked(model):
            examine(model, learns=False)
        self.model = model
        self.tokenizer = tokenizer
        self.context = context or context_of(cast("Any", model).config) or SEQUENCE
        self._device = next(model.parameters()).device
        on_cpu = self._device.type == "cpu"
        self._batch_tokens = batch_tokens or (1024 if on_cpu else 16384)
        self._scorer = Scorer(model, self._batch_tokens)
        self._ends = frozenset(ends(model, tokenizer))
        self._progress = progress

    @property
    def fingerprint(self) -> str:
        """Of the tokenizer: the same where it makes the same tokens of every text."""
        told: str = self.tokenizer.backend_tokenizer.to_str()
        return hashlib.sha256(told.encode()).hexdigest()

    @property
    def _norm(self) -> tuple[float, float]:
        """Mean and standard deviation by which a scalar model's values are normalised."""
        config = cast("Any", self.model).config
        return getattr(config, "value_mean", 0.0), getattr(config, "value_std", 1.0)

    def answer(
        self, requests: Sequence[Request], progress: Callable[[int], None] = lambda done: None
    ) -> list[Response]:
        """One response for each request, in their order; ``progress`` gets how many are done."""
        scored = [i for i, r in enumerate(requests) if isinstance(r, LogLikelihood | Rolling)]
        generated = [i for i, r in enumerate(requests) if isinstance(r, Generation)]
        responses: list[Response] = [Response()] * len(requests)
        answers = self.loglikelihoods([cast("Any", requests[i]) for i in scored], progress)
        texts = self.generations(
            [cast("Generation", requests[i]) for i in generated],
            lambda done: progress(len(scored) + done),
        )
        for i, response in zip([*scored, *generated], [*answers, *texts], strict=True):
            responses[i] = response
        asked = [i for i, r in enumerate(requests) if isinstance(r, Value)]
        values = self.scores(
            [(r.prompt, r.completion, r.tools) for r in requests if isinstance(r, Value)]
        )
        for i, (value, truncated) in zip(asked, values, strict=True):
            responses[i] = Response(value=value, value_std=self._norm[1], truncated=truncated)
        done = len(scored) + len(generated) + len(asked)
        for i, request in enumerate(requests):
            if isinstance(request, Attack):
                responses[i] = attack(
                    self.model, self.tokenizer, request, self.loglikelihoods, self.context
                )
                done += 1
                progress(done)
        return responses

    @torch.inference_mode()
    def loglikelihoods(
        self,
        requests: Sequence[LogLikelihood | Rolling],
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Response]:
        """log P in nats of each continuation or rolling text."""
        encoded = self._encode(requests)
        truncated = [False] * len(requests)
        owners: list[int] = []
        rows: list[Asked] = []
        for owner, (request, tokens) in enumerate(zip(requests, encoded, strict=True)):
            if isinstance(request, Rolling):
                asked = list(self._windows(tokens[1], request.stride))
            else:
                whole = [*tokens[0], *tokens[1]]
                cut = max(0, len(whole) - (self.context + 1))
                truncated[owner] = cut > 0
                asked = [Asked(whole[cut:], min(len(tokens[1]), len(whole) - cut - 1))]
            rows += (row for row in asked if row.scored)
            owners += [owner] * (len(rows) - len(owners))
        logprob = [0.0] * len(requests)
        greedy = [True] * len(requests)
        count = [0] * len(requests)
        found = self._scorer.score(
            rows, lambda done: progress(done * len(requests) // max(1, len(rows)))
        )
        for owner, row in zip(owners, found, strict=True):
            logprob[owner] += float(row.logprobs.double().sum())
            greedy[owner] &= row.greedy
            count[owner] += len(row.logprobs)
        return [
            Response(logprob=p, tokens=n, greedy=g, truncated=t)
            for p, n, g, t in zip(logprob, count, greedy, truncated, strict=True)
        ]

    @torch.inference_mode()
    def logprobs(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], temperature: float = 1.0
    ) -> list[tuple[Tensor, Tensor]]:
        """log P ``_T`` in nats of each answer's T tokens after its prompt's, both as ids: of the model
        itself, and of what it samples from at this temperature."""
        asked = [Asked([*prompt, *answer], len(answer)) for prompt, answer in rows]
        found = self._scorer.score(asked, lambda done: self._progress(done, len(rows)), temperature)
        return [(one.logprobs, one.tempered) for one in found]

    @torch.inference_mode()
    def values(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """What a scalar model gives at each of a row's T tokens, ``_T`` in float32. Raises RunError for
        another one."""
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        values: dict[int, Tensor] = {}
        while order:
            width = len(rows[order[0]])
            some = max(1, self._batch_tokens // width)
            batch, order = order[:some], order[some:]
            ids = torch.zeros(len(batch), width, dtype=torch.long)
            for b, i in enumerate(batch):  # padded on the right, where nobody looks
                ids[b, : len(rows[i])] = torch.tensor(rows[i])
            hidden_BTD = hidden_states(self.model, input_ids=ids.to(self._device))
            values_BT = through(scalar_head(self.model), hidden_BTD)[..., 0].float()
            values |= {i: values_BT[b, : len(rows[i])] for b, i in enumerate(batch)}
            self._progress(len(values), len(rows))
        return [values[i] for i in range(len(rows))]

    def scores(
        self, pairs: Sequence[tuple[Said, Said] | tuple[Said, Said, Tools | None]]
    ) -> list[tuple[float, bool]]:
        """A scalar model's value at the end of each answer to its prompt, which may have tools, and
        whether the prompt had to lose its beginning. Shifted and scaled by what config.json keeps as
        ``value_mean`` and ``value_std``."""
        rows = [example_tokens(self.tokenizer, *pair) for pair in pairs]
        whole = [[*prompt, *answer] for prompt, answer in rows]
        values = self.values([tokens[-self.context :] for tokens in whole])
        mean, std = self._norm
        return [
            ((float(value[-1]) - mean) / std, len(tokens) > self.context)
            for value, tokens in zip(values, whole, strict=True)
        ]

    def rollouts(
        self, prompts: Sequence[Sequence[int]], requests: Sequence[Generation]
    ) -> list[Rollout]:
        """Continues prompts of ids; the requests say how, their own prompts are not read."""
        texts = [
            Text(request, prompt, request.max_tokens, self.tokenizer, self._ends)
            for prompt, request in zip(prompts, requests, strict=True)
        ]
        done, total = 0, sum(text.limit for text in texts)

        def tell(text: Text) -> None:
            nonlocal done
            done += 1 + (text.limit - len(text.new) if text.ended else 0)
            self._progress(done, total)

        written = self._write(texts, lambda count: None, tell)
        return [Rollout(list(one.ids), one.ended, one.text) for one in written]

    def generate(
        self, request: Generation, on_text: Callable[[str], None] | None = None
    ) -> Response:
        """Continues a prompt; ``on_text`` gets each piece of text as it comes."""
        told = ""

        def tell(text: Text) -> None:
            nonlocal told
            so_far = text.text
            if on_text and not so_far.endswith("\ufffd"):  # half of a character so far
                ready = so_far[: len(so_far) - _begun(so_far, request.stop)]
                on_text(ready[len(told) :])
                told = ready

        (response,) = self._write([self._text(request)], lambda done: None, tell)
        if on_text:
            on_text(response.text[len(told) :])
        return response

    def generations(
        self,
        requests: Sequence[Generation],
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Response]:
        """Continues many prompts at once; ``progress`` gets how many have ended."""
        texts = [self._text(request) for request in requests]
        return self._write(texts, progress, lambda text: None)

    @torch.inference_mode()
    def _write(
        self,
        texts: Sequence[Text],
        progress: Callable[[int], None],
        on_token: Callable[[Text], None],
    ) -> list[Response]:
        responses: dict[int, Response] = {}

        def told(number: int, response: Response) -> None:
            responses[number] = response
            progress(len(responses))

        writer = Writer(self.model, shares=self._scorer.shares)
        writer.write(texts, told, on_token)
        return [responses[i] for i in range(len(texts))]

    def _text(self, request: Generation) -> Text:
        given = request.prompt
        (prompt,) = opened(self.tokenizer, [given]) if isinstance(given, str) else (list(given),)
        prompt = prompt or [boundary(self.tokenizer)]
        kept = self.fitting(prompt, request.max_tokens)
        limit = min(request.max_tokens, self.context - len(kept))
        cut = len(kept) < len(prompt)
        return Text(request, kept, limit, self.tokenizer, self._ends, truncated=cut)

    def fitting(self, prompt: Sequence[int], max_tokens: int) -> list[int]:
        """As much of a prompt's end as is read before an answer of so many tokens."""
        room = max(1, self.context // _LEAST_ROOM, self.context - max_tokens)
        return list(prompt[-room:])

    def _encode(
        self, requests: Sequence[LogLikelihood | Rolling]
    ) -> list[tuple[list[int], list[int]]]:
        """(context, continuation) of each."""
        pairs = [_apart(r) for r in requests if isinstance(r, LogLikelihood)]
        texts = {text for pair in pairs for text in pair if isinstance(text, str)}
        known = dict(zip(texts, opened(self.tokenizer, list(texts)), strict=True))
        first = [boundary(self.tokenizer)]
        found = []
        for request in requests:
            if isinstance(request, Rolling):
                found.append((first, encoder(self.tokenizer).text(request.text)))
                continue
            context, whole = (
                known[text] if isinstance(text, str) else list(text) for text in _apart(request)
            )
            split = len(context)
            found.append((whole[:split] or first, whole[split:]))
        return found

    def _windows(self, tokens: list[int], stride: int | None) -> Iterator[Asked]:
        """Windows over a text so that each token is scored once."""
        stride = min(stride or self.context, self.context)
        stream = [boundary(self.tokenizer), *tokens]
        start, end = 0, min(self.context, len(tokens))
        while start < end:
            # The last one is as long as the others: it has more context, as in lm-eval.
            yield Asked(stream[max(0, end - self.context) : end + 1], end - start)
            start, end = end, min(end + stride, len(tokens))


def _apart(request: LogLikelihood) -> tuple[str | tuple[int, ...], str | tuple[int, ...]]:
    """The context, and the context with its continuation."""
    context, continuation = request.context, request.continuation
    if not isinstance(context, str) or not isinstance(continuation, str):
        assert not isinstance(context, str), "tokens, or texts: not one of each"
        assert not isinstance(continuation, str), "tokens, or texts: not one of each"
        return context, context + continuation
    kept = context.rstrip()  # trailing spaces belong to the continuation's first token
    return kept, context + continuation


def _begun(text: str, stops: Sequence[str]) -> int:
    """Length of the text's end that may yet become a stop string."""
    return max((n for s in stops for n in range(1, len(s)) if text.endswith(s[:n])), default=0)
