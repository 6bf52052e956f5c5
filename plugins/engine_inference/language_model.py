"""The default language model: log-likelihoods with shared prefixes, and continuous batching."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine import (
    SEQUENCE,
    Context,
    Generation,
    LanguageModel,
    LogLikelihood,
    Response,
    Rolling,
    Rollout,
    Said,
    Tools,
)
from engine.modeling import (
    ScoredRow,
    boundary,
    context_of,
    ends,
    examine,
    example_tokens,
    hidden_states,
    is_marked,
    opened,
    readable,
    scalar_head,
    scored_rows,
    through,
)
from engine_inference.config import SharedPrefixes
from engine_inference.generation import Text, Writer
from engine_inference.likelihood import Found, Scorer


class SharedPrefixLM(LanguageModel):
    """Answers requests in batches of at most ``batch_tokens`` tokens, the longest first: 1024 on a CPU,
    so that a batch's activations fit into its cache, else 16384.

    Shared prefixes are computed once: see :mod:`engine_inference.prefix_trees`. ``progress`` is called
    with the finished and the total amount of a long call. Raises SpecError for a model that would be
    computed wrongly: see :func:`engine.modeling.examine`.
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

    @torch.inference_mode()
    def loglikelihoods(
        self,
        requests: Sequence[LogLikelihood | Rolling],
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Response]:
        """See :class:`engine.LanguageModel`."""
        asked = scored_rows(self.tokenizer, requests, self.context)
        rows = [row for its, _ in asked for row in its]
        found = iter(
            self._scorer.score(
                rows, lambda done: progress(done * len(requests) // max(1, len(rows)))
            )
        )
        return [_summed(list(islice(found, len(its))), truncated) for its, truncated in asked]

    @torch.inference_mode()
    def logprobs(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], temperature: float = 1.0
    ) -> list[tuple[Tensor, Tensor]]:
        """See :class:`engine.LanguageModel`."""
        asked = [ScoredRow([*prompt, *answer], len(answer)) for prompt, answer in rows]
        found = self._scorer.score(asked, lambda done: self._progress(done, len(rows)), temperature)
        return [(one.logprobs, one.tempered) for one in found]

    @torch.inference_mode()
    def values(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """See :class:`engine.LanguageModel`."""
        order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
        values: dict[int, Tensor] = {}
        while order:
            width = len(rows[order[0]])
            some = max(1, self._batch_tokens // width)
            batch, order = order[:some], order[some:]
            ids = torch.zeros(len(batch), width, dtype=torch.long)
            for place, number in enumerate(batch):  # causal attention hides padding on the right
                ids[place, : len(rows[number])] = torch.tensor(rows[number])
            hidden_BTD = hidden_states(self.model, input_ids=ids.to(self._device))
            values_BT = through(scalar_head(self.model), hidden_BTD)[..., 0].float()
            values |= {i: values_BT[b, : len(rows[i])] for b, i in enumerate(batch)}
            self._progress(len(values), len(rows))
        return [values[i] for i in range(len(rows))]

    def scores(
        self, pairs: Sequence[tuple[Said, Said] | tuple[Said, Said, Tools | None]]
    ) -> list[tuple[float, bool]]:
        """See :class:`engine.LanguageModel`."""
        rows = [example_tokens(self.tokenizer, *readable(self.tokenizer, pair)) for pair in pairs]
        whole = [[*prompt, *answer] for prompt, answer in rows]
        values = self.values([tokens[-self.context :] for tokens in whole])
        config = cast("Any", self.model).config
        mean, std = getattr(config, "value_mean", 0.0), getattr(config, "value_std", 1.0)
        return [
            ((float(value[-1]) - mean) / std, len(tokens) > self.context)
            for value, tokens in zip(values, whole, strict=True)
        ]

    def rollouts(
        self, prompts: Sequence[Sequence[int]], requests: Sequence[Generation]
    ) -> list[Rollout]:
        """See :class:`engine.LanguageModel`."""
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
        """See :class:`engine.LanguageModel`. Yields text as tokens are generated."""
        told = ""

        def tell(text: Text) -> None:
            nonlocal told
            so_far = text.text
            if on_text and not so_far.endswith("\ufffd"):  # ends in part of a character
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
        """See :class:`engine.LanguageModel`."""
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


def _summed(rows: Sequence[Found], truncated: bool) -> Response:
    """Sums the results of a request's rows to one response."""
    logprob, greedy, tokens = 0.0, True, 0
    for row in rows:
        logprob += float(row.logprobs.double().sum())
        greedy &= row.greedy
        tokens += len(row.logprobs)
    return Response(logprob=logprob, tokens=tokens, greedy=greedy, truncated=truncated)


def _begun(text: str, stops: Sequence[str]) -> int:
    """Length of the longest ending of the text that may become a stop string."""
    return max((n for s in stops for n in range(1, len(s)) if text.endswith(s[:n])), default=0)


def build(config: SharedPrefixes, context: Context) -> type[SharedPrefixLM]:
    """Returns the class itself, which needs nothing from the configuration or the run."""
    return SharedPrefixLM
