"""Requests to a language model, its responses, and the contract of inference components.

Nothing here imports torch. Shapes: T is the number of tokens in a row.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, Self, cast

if TYPE_CHECKING:
    from torch import Tensor, nn

    from engine.contracts.records import Said, Tools

_LEAST_ROOM = 4
"""A prompt keeps at least the context length divided by this number, however long its answer may be."""


@dataclass(frozen=True, slots=True)
class LogLikelihood:
    """Request for log P(continuation | context).

    Texts are tokenized together and then split, as lm-eval does; token ids are used unchanged, as in
    training on prompts and answers.
    """

    context: str | tuple[int, ...]
    continuation: str | tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Rolling:
    """Request for log P(text), computed over windows of the model's context length.

    ``stride``: tokens scored per window; None means as many as fit (lm-eval's convention).
    """

    text: str
    stride: int | None = None


@dataclass(frozen=True, slots=True)
class Generation:
    """Request for a continuation of the prompt, a text or token ids; ``temperature`` 0 is greedy.

    Requests with the same ``seed`` use the same random numbers, whatever their prompts: for independent
    samples, give each its own seed (:func:`engine.seed_of`).
    """

    prompt: str | tuple[int, ...]
    max_tokens: int = 256
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Value:
    """Request for the value that a scalar model, such as a reward model, gives an answer."""

    prompt: str | Sequence[Mapping[str, Any]]
    completion: str | Sequence[Mapping[str, Any]]
    tools: Sequence[Mapping[str, Any]] | None = None


class OwnRequest(ABC):
    """Base of request types that a plugin defines, with the code that answers them.

    Subclass it as a frozen dataclass: the request's ``repr`` decides whether a stored response is
    reused, and is part of a score's fingerprint.
    """

    __slots__ = ()

    @abstractmethod
    def answer(self, lm: LanguageModel) -> Response:
        """Computes the response with ``lm``, whose model must be left unchanged."""


Request = LogLikelihood | Rolling | Generation | Value | OwnRequest


@dataclass(frozen=True, slots=True)
class Response:
    """Response to a request: ``logprob`` in nats over ``tokens`` tokens, a generated ``text``, or a
    ``value``, normalised by the division by ``value_std``.

    ``greedy``: the continuation is the most likely one. Of a generated text, ``ids`` are its tokens,
    including an end token; ``logprob`` is theirs at temperature 1; ``tokens`` counts them without the
    end token. ``truncated``: the beginning of the prompt was cut off to fit; ``ended``: generation
    reached an end token or a stop string.
    """

    logprob: float = 0.0
    tokens: int = 0
    greedy: bool = False
    text: str = ""
    ids: tuple[int, ...] = ()
    truncated: bool = False
    ended: bool = True
    value: float = 0.0
    value_std: float = 1.0


@dataclass(frozen=True, slots=True)
class Rollout:
    """A sampled answer: its token ids, including the end token if it ``ended`` by itself, and its
    text."""

    tokens: list[int]
    ended: bool
    text: str


class LanguageModel(ABC):
    """Inference interface of a model with its tokenizer, for evaluators, rollouts, rewards and
    ``engine generate``. Each rank calls it alone, for its share of the requests.

    ``model`` is in evaluation mode on its device; ``context`` is the context length in tokens. A prompt
    that does not fit loses its beginning. A response does not depend on the other requests of a call,
    except for rounding.
    """

    def __new__(cls, *arguments: Any, **named: Any) -> Self:
        """Raises TypeError for the class itself, which older plugins instantiated."""
        if cls is LanguageModel:
            raise TypeError(
                "LanguageModel is a contract: use context.language_model(model, tokenizer)"
            )
        return super().__new__(cls)

    model: nn.Module
    tokenizer: Any
    context: int

    @abstractmethod
    def loglikelihoods(
        self,
        requests: Sequence[LogLikelihood | Rolling],
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Response]:
        """Responses with log P in nats of each continuation or text, summed over its ``tokens``, and
        ``greedy``. ``progress`` is called with the number of requests done."""

    @abstractmethod
    def logprobs(
        self, rows: Sequence[tuple[Sequence[int], Sequence[int]]], temperature: float = 1.0
    ) -> list[tuple[Tensor, Tensor]]:
        """For each row of (prompt ids, answer ids), log P in nats of the answer's T tokens, twice: at
        temperature 1, and at ``temperature``, as in sampling. Both ``_T`` in float32."""

    @abstractmethod
    def values(self, rows: Sequence[Sequence[int]]) -> list[Tensor]:
        """A scalar model's value at each of a row's T tokens, ``_T`` in float32. Raises RunError for a
        model with a language-model head."""

    @abstractmethod
    def scores(
        self, pairs: Sequence[tuple[Said, Said] | tuple[Said, Said, Tools | None]]
    ) -> list[tuple[float, bool]]:
        """For each (prompt, answer) or (prompt, answer, tools), a scalar model's value at the end of
        the answer, and whether the prompt's beginning was cut off. Values are shifted by ``value_mean``
        and divided by ``value_std`` of the model's config. Raises RunError for a model with a
        language-model head."""

    @abstractmethod
    def generations(
        self,
        requests: Sequence[Generation],
        progress: Callable[[int], None] = lambda done: None,
    ) -> list[Response]:
        """Continues many prompts; ``progress`` is called with the number finished. A text depends on
        its request alone: its random numbers come from ``seed``."""

    def generate(
        self, request: Generation, on_text: Callable[[str], None] | None = None
    ) -> Response:
        """Continues one prompt; ``on_text`` is called with each piece of text as it is generated."""
        (response,) = self.generations([request])
        if on_text:
            on_text(response.text)
        return response

    def rollouts(
        self, prompts: Sequence[Sequence[int]], requests: Sequence[Generation]
    ) -> list[Rollout]:
        """Continues prompts given as token ids, with the settings of ``requests``, whose own prompts
        are ignored."""
        prompted = [
            replace(request, prompt=tuple(prompt))
            for prompt, request in zip(prompts, requests, strict=True)
        ]
        return [Rollout(list(one.ids), one.ended, one.text) for one in self.generations(prompted)]

    def answer(
        self, requests: Sequence[Request], progress: Callable[[int], None] = lambda done: None
    ) -> list[Response]:
        """One response for each request, in order; ``progress`` is called with the number done."""
        scored = [i for i, r in enumerate(requests) if isinstance(r, LogLikelihood | Rolling)]
        generated = [i for i, r in enumerate(requests) if isinstance(r, Generation)]
        responses: list[Response] = [Response()] * len(requests)
        answers = self.loglikelihoods([cast("Any", requests[i]) for i in scored], progress)
        texts = self.generations(
            [cast("Generation", requests[i]) for i in generated],
            lambda done: progress(len(scored) + done),
        )
        for index, response in zip([*scored, *generated], [*answers, *texts], strict=True):
            responses[index] = response
        valued = [i for i, r in enumerate(requests) if isinstance(r, Value)]
        pairs = [(r.prompt, r.completion, r.tools) for r in requests if isinstance(r, Value)]
        values = self.scores(pairs) if pairs else []  # a language-model head has no scores
        std = getattr(cast("Any", self.model).config, "value_std", 1.0)
        for index, (value, truncated) in zip(valued, values, strict=True):
            responses[index] = Response(value=value, value_std=std, truncated=truncated)
        done = len(scored) + len(generated) + len(valued)
        for index, request in enumerate(requests):
            if isinstance(request, OwnRequest):
                responses[index] = request.answer(self)
                done += 1
                progress(done)
        return responses

    @property
    def fingerprint(self) -> str:
        """Hash of the tokenizer: equal hashes mean that every text gets the same tokens."""
        serialized: str = self.tokenizer.backend_tokenizer.to_str()
        return hashlib.sha256(serialized.encode()).hexdigest()

    def fitting(self, prompt: Sequence[int], max_tokens: int) -> list[int]:
        """The end of a prompt that fits before an answer of ``max_tokens`` tokens: at least a quarter
        of the context."""
        room = max(1, self.context // _LEAST_ROOM, self.context - max_tokens)
        return list(prompt[-room:])


class Inference(Protocol):
    """Returned by the factory of an inference component: wraps models for inference.

    Called on every rank, for each evaluation and each collection of rollouts.
    """

    def __call__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        context: int | None = None,
        progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> LanguageModel:
        """Wraps a model, in evaluation mode on its device, and its tokenizer.

        ``context``: context length in tokens; by default the model config's. ``progress`` is called
        with (done, total) in long calls (``logprobs``, ``values``, ``rollouts``). A model in training
        is wrapped again for each evaluation, since its weights have changed. Raises SpecError for a
        model that would be computed wrongly: see :func:`engine.modeling.examine`.
        """
