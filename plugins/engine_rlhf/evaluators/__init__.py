"""Evaluators of reward models, and of the answers that a language model samples."""
