"""Helpers for models, objectives and inference components: heads, packed rows, losses, chat tokens.

The public names are in ``__init__.pyi`` and resolved on first use. These helpers need torch or a
tokenizer; contracts, configurations and records are in :mod:`engine`. Shapes in names: B rows, T
positions, D hidden width, V vocabulary.
"""

from __future__ import annotations

from engine._public import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
