"""Translates lm-eval's requests into the engine's, and the engine's answers into lm-eval's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from lm_eval.api.instance import Instance

from engine import (
    Generation,
    LogLikelihood,
    Response,
    Rolling,
    RunError,
    seed_of,
)

_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""Names of the limit on an answer's tokens; lm-eval takes the first that is set."""
_LONGEST = 256
"""lm-eval's default limit, in tokens."""
_KNOWN = {*_LENGTHS, "until", "do_sample", "temperature", "top_p", "num_beams"}


def requests(task: str, instance: Instance) -> Iterator[LogLikelihood | Rolling | Generation]:
    """A request for each answer of an instance. Raises RunError for what no text model can answer."""
    kind, asked = instance.request_type, instance.args
    settings = asked[1] if kind == "generate_until" else {}
    texts = asked[:1] if kind == "generate_until" else asked
    if not all(isinstance(text, str) for text in texts):
        raise RunError(
            f"lm-eval task '{task}': its prompts are no texts: they need a chat template or a "
            "model that sees or hears"
        )
    for repeat in range(instance.repeats or 1):
        if kind == "loglikelihood":
            yield LogLikelihood(*texts)
        elif kind == "loglikelihood_rolling":
            yield Rolling(*texts)
        elif kind == "generate_until":
            seed = seed_of(task, instance.doc_id, instance.idx, repeat)
            yield _generation(task, texts[0], settings, seed)
        else:
            raise RunError(f"lm-eval task '{task}': no model here answers requests '{kind}'")


def answer(instance: Instance, response: Response) -> Any:
    """The value that lm-eval's own models would return for a response."""
    if instance.request_type == "loglikelihood":
        return response.logprob, response.greedy
    return response.text if instance.request_type == "generate_until" else response.logprob


def _generation(task: str, prompt: str, settings: Mapping[str, Any], seed: int) -> Generation:
    unknown = sorted(settings.keys() - _KNOWN)
    unknown += ["num_beams"] if settings.get("num_beams", 1) != 1 else []
    if unknown:
        raise RunError(
            f"lm-eval task '{task}': generation_kwargs: no model here obeys {', '.join(unknown)}",
            hint="leave them out in a task of your own, in the folder `include`",
        )
    until = settings.get("until") or []
    lengths = [settings[name] for name in _LENGTHS if settings.get(name) is not None]
    sampled = settings.get("do_sample") is not False
    return Generation(
        prompt,
        int(lengths[0]) if lengths else _LONGEST,
        tuple(stop for stop in ([until] if isinstance(until, str) else until) if stop),
        float(settings.get("temperature", 0.0)) if sampled else 0.0,
        float(settings.get("top_p", 1.0)),
        seed,
    )
