"""Estimates how profane a text is, by the classifier of alt-profanity-check.

It is a linear model over words, trained on comments that people called offensive. Profanity is not
toxicity: a polite threat is not profane, but a quoted swear-word is.
"""

from __future__ import annotations

from engine import RunError


def profanity(text: str) -> float:
    """Probability that the text is profane. Raises RunError without alt-profanity-check."""
    try:
        from profanity_check import predict_prob
    except ImportError as error:
        raise RunError(
            "profanity is found by alt-profanity-check, which is not installed",
            hint="pip install 'training-engine[evals]'",
        ) from error
    return float(predict_prob([text])[0])
