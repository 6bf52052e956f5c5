"""A causal language model as evaluators, rollouts and ``generate`` use it, and as training wraps it.

Shapes: B rows, T positions, N scored positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from engine.component import (
    Batch,
    Generation,
    LogLikelihood,
    Objective,
    Request,
    Response,
    Rolling,
    Setup,
)

_LOGITS_PER_CHUNK = 1 << 24
"""Scores held at once when hidden states meet the head: 64 MB in float32."""


def backbone(model: nn.Module) -> nn.Module:
    """The model without its head: gives ``last_hidden_state``."""
    return cast("nn.Module", model.base_model)


def head(model: nn.Module) -> nn.Module:
    """The output head: ``weight_VD`` and perhaps ``bias_V``."""
    return cast("nn.Module", cast("Any", model).get_output_embeddings())


def hidden_states(model: nn.Module, **inputs: Tensor) -> Tensor:
    """``_BTD``. Never with a cache: it would let packed documents see each other."""
    return cast("Tensor", backbone(model)(**inputs, use_cache=False).last_hidden_state)


def layers(module: nn.Module) -> list[nn.Module]:
    """The layers of a transformer: its longest list of modules."""
    lists = [
        list(m.values()) if isinstance(m, nn.ModuleDict) else list(m)
        for m in module.modules()
        if isinstance(m, nn.ModuleList | nn.ModuleDict)
    ]
    return max(lists, key=len, default=[])


def compile_layers(module: nn.Module) -> None:
    """Layer by layer: they share one compiled graph, so it takes seconds and not minutes."""
    for layer in layers(module):
        layer.compile(dynamic=False)


def place(batch: Batch, device: torch.device, setup: Setup) -> Batch:
    """The batch on the device, with what frozen models say of it."""

    def moved(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: t.to(device, non_blocking=True) for name, t in tensors.items()}

    placed = Batch(moved(batch.inputs), moved(batch.targets), batch.counts, batch.tokens)
    with torch.no_grad():
        return setup.objective.annotate(placed, setup.frozen)


class ObjectiveModule(nn.Module):
    """Model and objective as one module, so that wrappers (DDP, FSDP …) hold the loss as well."""

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self._objective = objective

    def forward(self, batch: Batch) -> dict[str, Tensor]:
        """The objective's sums by term."""
        hidden_BTD = hidden_states(self.model, **batch.inputs)
        return self._objective.loss(hidden_BTD, head(self.model), batch)


@dataclass(frozen=True, slots=True)
class _Row:
    """One forward pass's row: the last ``scored`` tokens are scored, for request ``owner``."""

    owner: int
    tokens: list[int]
    scored: int


class LanguageModel:
    """Answers requests in batches of at most ``batch_tokens`` tokens, the longest first."""

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        context: int | None = None,
        batch_tokens: int = 16384,
    ) -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.context = context or int(cast("Any", model).config.max_position_embeddings)
        self._batch_tokens = batch_tokens
        self._device = next(model.parameters()).device

    @property
    def _prefix(self) -> int:
        """What stands before a text's first token: BOS, or else EOS (lm-eval's convention)."""
        bos = self.tokenizer.bos_token_id
        return int(bos if bos is not None else self.tokenizer.eos_token_id)

    def answer(
        self, requests: Sequence[Request], progress: Callable[[int], None] = lambda done: None
    ) -> list[Response]:
        """One response for each request, in their order; ``progress`` gets how many are done."""
        scored = [i for i, r in enumerate(requests) if not isinstance(r, Generation)]
        generated = [i for i, r in enumerate(requests) if isinstance(r, Generation)]
        responses: list[Response] = [Response()] * len(requests)
        answers = self.loglikelihoods([cast("Any", requests[i]) for i in scored], progress)
        for i, response in zip(scored, answers, strict=True):
            responses[i] = response
        for n, i in enumerate(generated):
            responses[i] = self.generate(cast("Generation", requests[i]))
            progress(len(scored) + n + 1)
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
        rows: list[_Row] = []
        for owner, (request, tokens) in enumerate(zip(requests, encoded, strict=True)):
            if isinstance(request, Rolling):
                rows.extend(self._windows(owner, tokens[1], request.stride))
            else:
                whole = [*tokens[0], *tokens[1]]
                cut = max(0, len(whole) - (self.context + 1))
                truncated[owner] = cut > 0
                rows.append(_Row(owner, whole[cut:], min(len(tokens[1]), len(whole) - cut - 1)))
        logprob = [0.0] * len(requests)
        greedy = [True] * len(requests)
        count = [0] * len(requests)
        rows.sort(key=lambda r: -len(r.tokens))
        done = 0
        for batch in self._batches(rows):
            for row, (total, is_greedy) in zip(batch, self._score(batch), strict=True):
                logprob[row.owner] += total
                greedy[row.owner] &= is_greedy
                count[row.owner] += row.scored
            done += len(batch)
            progress(done * len(requests) // len(rows))
        return [
            Response(logprob=p, tokens=n, greedy=g, truncated=t)
            for p, n, g, t in zip(logprob, count, greedy, truncated, strict=True)
        ]

    @torch.inference_mode()
    def generate(
        self, request: Generation, on_text: Callable[[str], None] | None = None
    ) -> Response:
        """Continues a prompt with a KV cache; ``on_text`` gets each piece of text as it comes."""
        prompt: list[int] = self.tokenizer.encode(request.prompt, add_special_tokens=False)
        room = self.context - request.max_tokens
        tokens = prompt[-max(1, room) :] or [self._prefix]
        generator = torch.Generator(self._device).manual_seed(request.seed)
        cache = None
        new: list[int] = []
        told = text = ""
        feed = torch.tensor([tokens], device=self._device)
        while len(new) < min(request.max_tokens, self.context - len(tokens)):
            output = cast("Any", self.model)(input_ids=feed, past_key_values=cache, use_cache=True)
            cache = output.past_key_values
            token = _choose(output.logits[0, -1].float(), request, generator)
            if token == self.tokenizer.eos_token_id:
                break
            new.append(token)
            feed = torch.tensor([[token]], device=self._device)
            text = self.tokenizer.decode(new, skip_special_tokens=True)
            end = min((e for s in request.stop if (e := text.find(s)) >= 0), default=None)
            if end is not None:
                text = text[:end]
                break
            if on_text and not text.endswith("\ufffd"):  # half of a character so far
                ready = text[: len(text) - _begun(text, request.stop)]
                on_text(ready[len(told) :])
                told = ready
        if on_text:
            on_text(text[len(told) :])
        return Response(text=text, tokens=len(new), truncated=len(tokens) < len(prompt))

    def _encode(
        self, requests: Sequence[LogLikelihood | Rolling]
    ) -> list[tuple[list[int], list[int]]]:
        """(context, continuation) of each; encoded together and then split, as lm-eval does."""
        texts: list[str] = []
        for request in requests:
            if isinstance(request, Rolling):
                texts += ["", request.text]
            else:
                context, continuation = request.context, request.continuation
                spaces = len(context) - len(context.rstrip())
                if spaces:  # trailing spaces belong to the continuation's first token
                    continuation = context[-spaces:] + continuation
                    context = context[:-spaces]
                texts += [context, context + continuation]
        ids = self.tokenizer(texts, add_special_tokens=False)["input_ids"] if texts else []
        pairs = []
        for context_ids, whole in zip(ids[::2], ids[1::2], strict=True):
            split = len(context_ids)
            pairs.append((whole[:split] or [self._prefix], whole[split:]))
        return pairs

    def _windows(self, owner: int, tokens: list[int], stride: int | None) -> Iterator[_Row]:
        """Windows over a text so that each token is scored once."""
        stride = min(stride or self.context, self.context)
        stream = [self._prefix, *tokens]
        start, end = 0, min(self.context, len(tokens))
        while start < end:
            # The last one is as long as the others: it has more context, as in lm-eval.
            yield _Row(owner, stream[max(0, end - self.context) : end + 1], end - start)
            start, end = end, min(end + stride, len(tokens))

    def _batches(self, rows: Sequence[_Row]) -> Iterator[Sequence[_Row]]:
        start = 0
        while start < len(rows):
            size = max(1, self._batch_tokens // len(rows[start].tokens))
            yield rows[start : start + size]
            start += size

    def _score(self, rows: Sequence[_Row]) -> list[tuple[float, bool]]:
        """Sum of log P and whether all are the likeliest, over each row's scored tokens.

        Rows are padded on the right, where causal attention keeps padding out of everything.
        """
        width = max(len(row.tokens) for row in rows) - 1
        input_ids = torch.full((len(rows), width), self._prefix)
        where_B: list[Tensor] = []
        labels: list[int] = []
        for b, row in enumerate(rows):
            length = len(row.tokens) - 1
            input_ids[b, :length] = torch.tensor(row.tokens[:-1])
            where_B.append(b * width + torch.arange(length - row.scored, length))
            labels += row.tokens[len(row.tokens) - row.scored :]
        hidden_BTD = hidden_states(self.model, input_ids=input_ids.to(self._device))
        chosen_ND = hidden_BTD.flatten(0, 1)[torch.cat(where_B).to(self._device)]
        logprob_N, greedy_N = _score_tokens(
            chosen_ND, head(self.model), torch.tensor(labels, device=self._device)
        )
        counts = [row.scored for row in rows]
        return [
            (float(p.double().sum()), bool(g.all()))
            for p, g in zip(logprob_N.split(counts), greedy_N.split(counts), strict=True)
        ]


def _score_tokens(
    hidden_ND: Tensor, output_head: nn.Module, labels_N: Tensor
) -> tuple[Tensor, Tensor]:
    """log P(label) and whether the label is the likeliest, without holding all logits."""
    rows = max(1, _LOGITS_PER_CHUNK // cast("Tensor", output_head.weight).shape[0])
    logprob, greedy = [], []
    for hidden, labels in zip(hidden_ND.split(rows), labels_N.split(rows), strict=True):
        logits_NV = output_head(hidden).float()
        chosen_N = logits_NV.gather(1, labels[:, None])[:, 0]
        logprob.append(chosen_N - logits_NV.logsumexp(1))
        greedy.append(logits_NV.argmax(1) == labels)
    return torch.cat(logprob), torch.cat(greedy)


def _begun(text: str, stops: Sequence[str]) -> int:
    """Length of the text's end that may yet become a stop string."""
    return max((n for s in stops for n in range(1, len(s)) if text.endswith(s[:n])), default=0)


def _choose(logits_V: Tensor, request: Generation, generator: torch.Generator) -> int:
    """The next token: the likeliest, or drawn from the nucleus (Holtzman et al. 2020)."""
    if request.temperature == 0:
        return int(logits_V.argmax())
    probabilities_V = (logits_V / request.temperature).softmax(-1)
    if request.top_p < 1:
        sorted_V, order_V = probabilities_V.sort(descending=True)
        outside_V = sorted_V.cumsum(-1) - sorted_V >= request.top_p
        probabilities_V = probabilities_V.index_fill(0, order_V[outside_V], 0)
    return int(torch.multinomial(probabilities_V, 1, generator=generator))
