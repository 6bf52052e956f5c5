"""A run from spec to model, as a user sees it."""

from __future__ import annotations

from support.runs import events, steps


def test_a_run_ends_with_a_model_that_transformers_opens(finished_run):
    """`final` opens with the Auto classes, and the log tells of every step and score."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(finished_run / "base" / "final")
    tokenizer = AutoTokenizer.from_pretrained(finished_run / "base" / "final")
    assert model.config.vocab_size >= len(tokenizer)
    assert steps(finished_run) == [1, 2, 3, 4, 5, 6]
    metrics = {e["metric"] for e in events(finished_run, "score")}
    assert metrics == {"perplexity", "bits_per_byte"}
