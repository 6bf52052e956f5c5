"""Faulty inference components."""

from __future__ import annotations

import string
from dataclasses import replace

import torch
from engine_inference.language_model import SharedPrefixLM
from support.faults.fault import Planted, kit

from engine import Generation, InferenceConfig, LogLikelihood, Rolling, Value
from engine.modeling import with_scalar_head
from engine.testing import tiny_model


class Own(InferenceConfig):
    """Answers as the engine's own does."""


planted = Planted("inference", Own)


def _factory(cls):
    """A class of a language model as the factory that gives it."""

    def build(config, context):
        return cls

    build.__name__, build.__module__, build.__doc__ = cls.__name__, cls.__module__, cls.__doc__
    return build


class SharedPrefix(SharedPrefixLM):
    """Right."""


@planted.right
def as_the_engine(config, context):
    """Right."""
    return SharedPrefix


def _lm(make, scalar=False, **how):
    model = tiny_model(kit())
    if scalar:
        model = with_scalar_head(model, 0)
        model.config.value_mean, model.config.value_std = 0.5, 4.0
    else:
        with torch.no_grad():
            for weight in model.parameters():
                if weight.dim() > 1:
                    weight *= 12
    return make()(model.eval(), kit().tokenizer(), **how)


def likelihoods(make):
    """Log-likelihoods of answers, one of which does not fit."""
    asked = [
        LogLikelihood("the cat", " sat"),
        LogLikelihood("a mat", "!"),
        Rolling("one old chair"),
    ]
    asked.append(LogLikelihood("mouse " * 20, "cat"))
    lm = _lm(make, context=24)
    before = tuple(kit().tokenizer().encode("the cat"))
    asked.append(LogLikelihood(before, lm.generate(Generation(before, 1)).ids))
    return [(r.logprob, r.tokens, r.greedy, r.truncated) for r in lm.loglikelihoods(asked)]


def tempered(make):
    """Log-probabilities of sampled tokens, for a policy's gradient."""
    ids = kit().tokenizer().encode("the cat sat")
    return [both for half in _lm(make).logprobs([(ids[:5], ids[5:])], 0.5) for both in half]


def texts(make):
    """Texts, greedy and sampled."""
    asked = [Generation("the cat", max_tokens=9), Generation("one", max_tokens=9)]
    asked += [
        replace(asked[0], temperature=heat, seed=seed) for heat in (0.3, 3) for seed in (1, 2)
    ]
    asked += [replace(asked[0], temperature=2.0, top_p=0.05, seed=seed) for seed in (3, 4)]
    return [
        (r.text, r.ids, r.tokens, r.ended, round(r.logprob, 3))
        for r in _lm(make).generations(asked)
    ]


def after_a_prompt(make):
    """Texts of two calls with one prompt."""
    lm = _lm(make)
    return [lm.generate(Generation("the cat", max_tokens=most)).ids for most in (9, 4)]


def stopped(make):
    """Texts that end before two of their letters."""
    lm, found = _lm(make), []
    for prompt in string.ascii_letters[:8]:
        ask = Generation(prompt, max_tokens=20, temperature=4.0, seed=ord(prompt))
        text = lm.generate(ask).text
        found.append(lm.generate(replace(ask, stop=(text[3:5] or "x",))).text)
    return found


def alone(make):
    """A sampled text without others beside it."""
    return _lm(make).generate(Generation("one", max_tokens=9, temperature=2.0, seed=7)).ids


def beside(make):
    """The same text beside others."""
    ask = Generation("one", max_tokens=9, temperature=2.0, seed=7)
    return _lm(make).generations([Generation("a", 9, temperature=2.0, seed=1), ask])[1].ids


def values(make):
    """A scalar model's values of rows."""
    lm = _lm(make, scalar=True)
    pairs = [("the cat", " sat"), ([{"role": "user", "content": "one"}], "two")]
    answered = [response.value for response in lm.answer([Value(*pairs[0])])]
    rows = [[5, 6, 7, 8], [9, 10]]
    return [[row.tolist() for row in lm.values(rows)], lm.scores(pairs[:1]), answered]


def mode_after(make):
    """Whether dropout is off after an answer."""
    lm = _lm(make)
    lm.loglikelihoods([LogLikelihood("a", "b")])
    return lm.model.training


def told(make):
    """What a progress bar is told."""
    done = []
    _lm(make).generations([Generation("a", 4), Generation("b", 4)], done.append)
    return sorted(done)[-1:]


def fault(shows, told=""):
    """Declares a language model's class as a fault."""

    def declare(cls):
        return planted.fault(shows, told)(_factory(cls))

    return declare


@fault(likelihoods, "by the model's own forward pass")
class OnePositionLate(SharedPrefix):
    """It reads each token's probability one position late."""

    def loglikelihoods(self, requests, *progress):
        later = [
            LogLikelihood(r.context + r.continuation[:1], r.continuation[1:] + "a")
            if isinstance(r, LogLikelihood) and isinstance(r.context, str)
            else r
            for r in requests
        ]
        return super().loglikelihoods(later, *progress)


@fault(tempered, "log P at temperature 0.5")
class IgnoresTemperature(SharedPrefix):
    """Log-probabilities are those at temperature 1."""

    def logprobs(self, rows, temperature=1.0):
        return super().logprobs(rows)


@fault(texts, "at a temperature near 0")
class SamplesAtOne(SharedPrefix):
    """It samples at temperature 1, whatever is asked."""

    def generations(self, requests, *progress):
        warm = [replace(r, temperature=min(r.temperature, 1) and 1.0) for r in requests]
        return super().generations(warm, *progress)

    def rollouts(self, prompts, requests):
        warm = [replace(r, temperature=min(r.temperature, 1) and 1.0) for r in requests]
        return super().rollouts(prompts, warm)

    def generate(self, request, on_text=None):
        return super().generate(
            replace(request, temperature=min(request.temperature, 1) and 1.0), on_text
        )


@fault(texts, "with a top_p near 0")
class IgnoresTopP(SharedPrefix):
    """It samples from all tokens."""

    def generations(self, requests, *progress):
        return super().generations([replace(r, top_p=1.0) for r in requests], *progress)

    def generate(self, request, on_text=None):
        return super().generate(replace(request, top_p=1.0), on_text)


@fault(likelihoods, "`greedy` of")
class NeverGreedy(SharedPrefix):
    """It says of no continuation that it is the likeliest."""

    def loglikelihoods(self, requests, *progress):
        return [replace(r, greedy=False) for r in super().loglikelihoods(requests, *progress)]


@fault(likelihoods, "`truncated` of")
class CutsSilently(SharedPrefix):
    """It does not say that a context was cut."""

    def loglikelihoods(self, requests, *progress):
        return [replace(r, truncated=False) for r in super().loglikelihoods(requests, *progress)]


@fault(likelihoods, "`context` is what is given")
class ContextOfTheModel(SharedPrefix):
    """It reads as much as the model can, not as it was told."""

    def __init__(self, model, tokenizer, *, context=None, **how):
        super().__init__(model, tokenizer, **how)


@fault(likelihoods, "by the model's own forward pass")
class LongestFirst(SharedPrefix):
    """Responses come in the order in which it computes them."""

    def loglikelihoods(self, requests, *progress):
        found = super().loglikelihoods(requests, *progress)
        lengths = [len(r.context) if isinstance(r, LogLikelihood) else 0 for r in requests]
        return [found[n] for n in sorted(range(len(found)), key=lambda n: -lengths[n])]


@fault(beside, "depends on its request alone")
class OneChance(SharedPrefix):
    """A text's random numbers depend on its place in the call."""

    def generations(self, requests, *progress):
        own = [replace(r, seed=r.seed + n) for n, r in enumerate(requests)]
        return super().generations(own, *progress)


@fault(stopped, "before the stop string")
class KeepsTheStop(SharedPrefix):
    """A text ends with the stop string."""

    def _kept(self, response, request):
        at_end = response.ended and request.stop and response.text
        return replace(response, text=response.text + request.stop[0]) if at_end else response

    def generate(self, request, on_text=None):
        return self._kept(super().generate(request, on_text), request)


@fault(texts, "log P of the text")
class LogProbabilityOfOneToken(SharedPrefix):
    """A text's log-probability is the mean of its tokens'."""

    def generations(self, requests, *progress):
        found = super().generations(requests, *progress)
        return [replace(r, logprob=r.logprob / max(r.tokens, 1)) for r in found]


@fault(texts, "log P of a sampled text")
class LogProbabilityWhenSampled(SharedPrefix):
    """A sampled text's log-probability is that at its temperature."""

    def generations(self, requests, *progress):
        found = super().generations(requests, *progress)
        heats = [request.temperature or 1.0 for request in requests]
        return [replace(r, logprob=r.logprob / h) for r, h in zip(found, heats, strict=True)]


@fault(values, "values are")
class ValuesOneLate(SharedPrefix):
    """A token's value is that of the token before."""

    def values(self, rows):
        return [torch.cat([value[:1], value[:-1]]) for value in super().values(rows)]


@fault(values, "the normalised value at the end")
class RawScores(SharedPrefix):
    """Scores are not normalised."""

    def scores(self, pairs):
        return [(4.0 * value + 0.5, cut) for value, cut in super().scores(pairs)]


@fault(mode_after, "the model stays in evaluation mode")
class LeavesDropoutOn(SharedPrefix):
    """After an answer the model is in training mode."""

    def loglikelihoods(self, requests, *progress):
        found = super().loglikelihoods(requests, *progress)
        self.model.train()
        return found


@fault(told, "progress ends with all")
class TellsNothing(SharedPrefix):
    """It does not tell progress."""

    def generations(self, requests, progress=None):
        return super().generations(requests)


@fault(after_a_prompt, "where max_tokens says so")
class RemembersPrompts(SharedPrefix):
    """It gives a prompt's first text again, however long it was to be."""

    def generate(self, request, on_text=None):
        known = self.__dict__.setdefault("known", {})
        key = (request.prompt, request.temperature, request.seed, request.top_p, request.stop)
        if key not in known:
            known[key] = super().generate(request, on_text)
        elif on_text:
            on_text(known[key].text)
        return known[key]
