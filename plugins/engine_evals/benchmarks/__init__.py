"""Benchmarks that a record describes: rows, prompts, few-shot examples and scores."""
