"""Configuration of the inference component."""

from __future__ import annotations

from engine import InferenceConfig


class SharedPrefixes(InferenceConfig):
    """Computes shared prefixes of requests once, and generates many texts at a time."""
