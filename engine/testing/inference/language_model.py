"""Checks that an inference component gives the numbers and texts of the model's own forward pass."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from engine.contracts.config import Config
from engine.contracts.language_model import (
    Generation,
    LanguageModel,
    LogLikelihood,
    OwnRequest,
    Response,
    Rolling,
    Value,
)
from engine.errors import RunError
from engine.modeling.chat_tokens import example_tokens
from engine.modeling.encoding import boundary, encoder
from engine.modeling.heads import attend, backbone, with_scalar_head
from engine.testing.inference.forward_pass import (
    NATS,
    continued,
    lively_model,
    logits,
    near,
    own_logprob,
)
from engine.testing.inference.texts import ended, texts
from engine.testing.requirements import require
from engine.testing.standalone import StandAloneContext, tiny_model

_CONTEXT = 24
_MEAN, _STD = 0.5, 4.0
"""``value_mean`` and ``value_std`` of the scalar model."""


def inference(new: Callable[[], Any], config: Config, context: StandAloneContext) -> None:
    """Compares log-likelihoods, texts and values of a small model with the model itself."""
    tokenizer = context.tokenizer()
    model = lively_model(context)
    component = new()
    whole = component(model, tokenizer)
    require(isinstance(whole, LanguageModel), f"{whole!r} is not a LanguageModel")
    wrong = f"without `context` it is the model's own, not {whole.context}"
    require(whole.context == model.config.max_position_embeddings, wrong)
    lm = component(model, tokenizer, context=_CONTEXT)
    require(lm.context == _CONTEXT, f"`context` is what is given, not {lm.context}")
    require(lm.model is model and lm.tokenizer is tokenizer, "`model` and `tokenizer` are as given")
    require(lm.fingerprint == whole.fingerprint, "the fingerprint depends on the tokenizer alone")
    _loglikelihoods(lm)
    _rolling(lm)
    _logprobs(lm)
    texts(lm)
    ended(component, lm)
    _values(component, context)
    _answers(lm)
    require(not model.training, "the model stays in evaluation mode")


def _loglikelihoods(lm: LanguageModel) -> None:
    """Checks texts and ids, shared beginnings, an empty context, and one that is too long."""
    own = encoder(lm.tokenizer).text
    likeliest = continued(lm.model, own("the cat"), 2)
    asked: list[tuple[LogLikelihood, list[int], int]] = [
        (LogLikelihood(before, after), own(before + after), len(own(after)))
        for before in ("the cat", "the cat sat")
        for after in (" on", " in a hat", "!")
    ]
    asked.append((LogLikelihood("", "cat"), [boundary(lm.tokenizer), *own("cat")], 3))
    ids, after = own("the cat"), tuple(likeliest)
    asked.append((LogLikelihood(tuple(ids), after), [*ids, *after], len(after)))
    asked.append((LogLikelihood("mouse " * 9, "cat"), own("mouse " * 9 + "cat"), 4))
    done: list[int] = []
    found = lm.loglikelihoods([request for request, _, _ in asked], done.append)
    require(done and done[-1] == len(asked), "progress ends with all requests")
    for (request, tokens, scored), response in zip(asked, found, strict=True):
        logprob, greedy = own_logprob(lm.model, tokens[-_CONTEXT - 1 :], scored)
        require(
            near(response.logprob, logprob, scored) and response.tokens == scored,
            f"{request} has log P {logprob:.4f} over {scored} tokens by the model's own forward pass, "
            f"not {response.logprob:.4f} over {response.tokens}",
        )
        require(response.greedy == greedy, f"`greedy` of {request} is {greedy}")
        cut = len(tokens) > _CONTEXT + 1
        require(response.truncated == cut, f"`truncated` of {request} is {cut}")
    (empty,) = lm.loglikelihoods([LogLikelihood("the cat", "")])
    require(
        (empty.logprob, empty.tokens) == (0, 0), "an empty continuation has log P 0 of 0 tokens"
    )


def _rolling(lm: LanguageModel) -> None:
    """Checks disjoint windows, and a stride of 1, at which each token has as much context as fits."""
    tokens = encoder(lm.tokenizer).text("one small grey mouse ran under two old chairs")
    stream = [boundary(lm.tokenizer), *tokens]
    expected = 0.0
    for end in range(2, len(stream) + 1):
        window = stream[max(0, end - _CONTEXT - 1) : end]
        expected += own_logprob(lm.model, window, 1)[0]
    text = lm.tokenizer.decode(tokens)
    closely, apart = lm.loglikelihoods([Rolling(text, stride=1), Rolling(text)])
    for response in (closely, apart):
        require(response.tokens == len(tokens), "a rolling text's tokens count once each")
    require(
        near(closely.logprob, expected, len(tokens)),
        f"with a stride of 1 each token has the {_CONTEXT} before it: log P {expected:.4f}, "
        f"not {closely.logprob:.4f}",
    )
    first = stream[: _CONTEXT + 1]
    rest = len(stream) - len(first)
    expected = (
        own_logprob(lm.model, first, _CONTEXT)[0]
        + own_logprob(lm.model, stream[-_CONTEXT - 1 :], rest)[0]
    )
    require(
        near(apart.logprob, expected, len(tokens)),
        f"without a stride windows are disjoint, and the last is extended by tokens before it: log P "
        f"{expected:.4f}, not {apart.logprob:.4f}",
    )


def _logprobs(lm: LanguageModel) -> None:
    own = encoder(lm.tokenizer).text
    rows = [(own("the cat"), own(" sat")), (own("one small grey"), own(" m")), (own("a"), own("b"))]
    for temperature in (1.0, 0.5):
        found = lm.logprobs(rows, temperature)
        for (prompt, answer), both in zip(rows, found, strict=True):
            logits_TV = logits(lm.model, [*prompt, *answer][:-1])[-len(answer) :]
            labels_T = torch.tensor(answer)[:, None]
            for values_T, heat in zip(both, (1.0, temperature), strict=True):
                expected_T = (logits_TV / heat).log_softmax(-1).gather(1, labels_T)[:, 0]
                require(
                    values_T.shape == expected_T.shape and values_T.dtype == torch.float32,
                    f"log P of {len(answer)} tokens is _T in float32, not {values_T}",
                )
                require(
                    torch.allclose(values_T.double().cpu(), expected_T, rtol=0, atol=NATS),
                    f"log P at temperature {heat} is {expected_T.tolist()}, not {values_T.tolist()}",
                )


def _values(component: Any, context: StandAloneContext) -> None:
    """Checks a scalar model's values at each token, and normalised at an answer's end."""
    tokenizer = context.tokenizer()
    lm = component(tiny_model(context).eval(), tokenizer)
    refused = False
    try:
        lm.values([[1, 2, 3]])
    except RunError:
        refused = True
    require(refused, "values() of a model without a scalar head raises RunError")
    model: Any = with_scalar_head(tiny_model(context), context.seed).eval()
    attend(model)
    model.config.value_mean, model.config.value_std = _MEAN, _STD
    lm = component(model, tokenizer, context=_CONTEXT)
    rows = [encoder(tokenizer).text(text) for text in ("the cat", "one small grey mouse", "a")]
    for tokens, values_T in zip(rows, lm.values(rows), strict=True):
        expected_T = _by_head(model, tokens)
        require(
            values_T.shape == expected_T.shape
            and torch.allclose(values_T.cpu(), expected_T, rtol=1e-3, atol=1e-4),
            f"values are {expected_T.tolist()}, not {values_T.tolist()}",
        )
    pairs = [("the cat", " sat"), ("mouse " * 9, "cat")]
    answered = lm.answer([Value(*pair) for pair in pairs])
    for pair, (value, truncated), response in zip(pairs, lm.scores(pairs), answered, strict=True):
        prompt, answer = example_tokens(tokenizer, *pair)
        tokens = [*prompt, *answer]
        expected = (float(_by_head(model, tokens[-_CONTEXT:])[-1]) - _MEAN) / _STD
        require(
            math.isclose(value, expected, rel_tol=1e-3, abs_tol=1e-4),
            f"the normalised value at the end of {pair} is {expected:.4f}, not {value:.4f}",
        )
        require(truncated == (len(tokens) > _CONTEXT), "a score says whether the prompt was cut")
        asked = Response(value=value, value_std=_STD, truncated=truncated)
        require(response == asked, f"the answer to a Value is {asked}, not {response}")


@torch.no_grad()
def _by_head(model: Any, tokens: Sequence[int]) -> Tensor:
    hidden_TD = backbone(model)(input_ids=torch.tensor([tokens])).last_hidden_state[0]
    values_T: Tensor = model.score(hidden_TD)[:, 0].float()
    return values_T


@dataclass(frozen=True, slots=True)
class _Double(OwnRequest):
    """A request of a plugin's own, answered by two of another kind."""

    text: str

    def answer(self, lm: LanguageModel) -> Response:
        """log P of the text, twice."""
        found = lm.loglikelihoods([Rolling(self.text)] * 2)
        return Response(logprob=sum(one.logprob for one in found))


def _answers(lm: LanguageModel) -> None:
    """Checks that requests of several kinds are answered in their order."""
    text, rolling = Generation("a", max_tokens=2), Rolling("the cat")
    done: list[int] = []
    found = lm.answer([_Double("the cat"), text, rolling], done.append)
    require(done and done[-1] == len(found), "progress ends with all requests")
    require(found[1].ids == lm.generate(text).ids, "the second answer is the second request's")
    require(near(found[0].logprob, 2 * found[2].logprob, 14), "answer() handles an OwnRequest")
