"""Tries architectures of transformers: what is right with each, and what the engine refuses."""
