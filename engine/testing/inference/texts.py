"""Checks texts written by inference components: greedy ones, sampled ones, and where they end."""

from __future__ import annotations

import string
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from engine.contracts.language_model import Generation, LanguageModel, Response
from engine.modeling.encoding import continuation, encoder
from engine.testing.inference.forward_pass import continued, near, own_logprob
from engine.testing.requirements import require

_WRITTEN = 10
_COLD, _WARM = 1e-3, 1.5
"""Temperatures: a sampler that ignores them draws other tokens at the first."""


def texts(lm: LanguageModel) -> None:
    """Checks that greedy texts are the argmax's, and sampled ones depend on their request alone."""
    own = encoder(lm.tokenizer).text
    prompts = ["the cat", "the cat sat on", "one", "mouse " * 9]
    requests = [Generation(prompt, max_tokens=_WRITTEN) for prompt in prompts]
    done: list[int] = []
    found = lm.generations(requests, done.append)
    require(done and done[-1] == len(requests), "progress ends with all texts")
    for request, response in zip(requests, found, strict=True):
        prompt = own(str(request.prompt))
        kept = lm.fitting(prompt, _WRITTEN)
        ids = continued(lm.model, kept, _WRITTEN)
        require(list(response.ids) == ids, f"{request} gives {ids}, not {list(response.ids)}")
        _check(lm, kept, response)
        require(response.truncated == (kept != prompt), "`truncated` says that a prompt was cut")
    ids_of = [replace(r, prompt=tuple(own(str(r.prompt)))) for r in requests]
    same = [r.ids for r in lm.generations(ids_of)] == [r.ids for r in found]
    require(same, "a prompt of ids gives the same text as the prompt's text")
    drawn = [replace(requests[0], temperature=_WARM, seed=seed) for seed in range(4)]
    together = lm.generations(drawn)
    require(len({r.ids for r in together}) > 1, "other seeds give other texts")
    require(
        [r.ids for r in together] == [lm.generate(r).ids for r in drawn],
        "a text depends on its request alone, not on those beside it",
    )
    cold = lm.generate(replace(requests[0], temperature=_COLD, seed=3))
    require(cold.ids == found[0].ids, "at a temperature near 0 only the likeliest token is drawn")
    sampled = together[0].ids
    warm, _ = own_logprob(lm.model, [*own(str(drawn[0].prompt)), *sampled], len(sampled))
    require(
        near(together[0].logprob, warm, len(sampled)),
        f"log P of a sampled text is that at temperature 1, {warm:.4f}, not {together[0].logprob:.4f}",
    )
    most = (_WRITTEN, _WRITTEN // 2)
    long, short = (lm.generate(replace(requests[0], max_tokens=n)).ids for n in most)
    require(
        short == long[: most[1]],
        f"a text has at most {most[1]} tokens where max_tokens says so, also after a longer one",
    )
    nucleus = lm.generate(replace(drawn[0], top_p=1e-9))
    require(nucleus.ids == found[0].ids, "with a top_p near 0 only the likeliest token is drawn")
    rollouts = lm.rollouts([own("the cat")] * len(drawn), drawn)
    written = [(tuple(r.tokens), r.ended, r.text) for r in rollouts]
    same = written == [(r.ids, r.ended, r.text) for r in together]
    require(same, "rollouts give the same texts as generations of their prompts")


def _check(lm: LanguageModel, prompt: Sequence[int], response: Response) -> None:
    """Checks the fields of a text that was cut off at its longest."""
    ids = list(response.ids)
    text = continuation(lm.tokenizer, prompt, ids)
    require(response.text == text, f"the text of {ids} is {text!r}, not {response.text!r}")
    logprob, _ = own_logprob(lm.model, [*prompt, *ids], len(ids))
    wrong = f"log P of the text {ids} is {logprob:.4f}, not {response.logprob:.4f}"
    require(near(response.logprob, logprob, len(ids)), wrong)
    require(not response.ended and response.tokens == len(ids), "a text cut off has not ended")


def ended(component: Any, lm: LanguageModel) -> None:
    """Checks that a text ends at an end token, which is not counted, or before a stop string."""
    model: Any = lm.model
    request = Generation("the cat", max_tokens=_WRITTEN)
    ids = continued(model, encoder(lm.tokenizer).text("the cat"), _WRITTEN)
    end = max(set(ids), key=ids.index)
    before = model.generation_config.eos_token_id
    model.generation_config.eos_token_id = [end]
    try:
        found = component(model, lm.tokenizer).generate(request)
    finally:
        model.generation_config.eos_token_id = before
    until = ids[: ids.index(end) + 1]
    require(
        found.ended and list(found.ids) == until and found.tokens == len(until) - 1,
        f"the text is {until}, ended by a token of generation_config that `tokens` does not count; "
        f"not {found}",
    )
    request, stop = _stop(lm)
    whole = lm.generate(replace(request, stop=())).text
    pieces: list[str] = []
    stopped = lm.generate(request, pieces.append)
    expected = whole[: whole.index(stop)]
    require(
        stopped.text == expected and stopped.ended,
        f"a text ends before the stop string {stop!r}: {expected!r}, not {stopped.text!r}",
    )
    require("".join(pieces) == expected, "`on_text` gets the text piece by piece")


def _stop(lm: LanguageModel) -> tuple[Generation, str]:
    """A request whose text has a stop string of two whole characters, and that string."""
    for letter in string.ascii_letters:
        request = Generation(letter, max_tokens=_WRITTEN)
        text = lm.generate(request).text
        for place in range(2, len(text) - 1):
            stop = text[place : place + 2]
            if stop.isascii() and text.index(stop) == place:
                return replace(request, stop=(stop,)), stop
    raise AssertionError("no text of the kit's model has two characters to stop at")
