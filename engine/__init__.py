"""engine: a plugin-based training engine for large language models.

The public interface is the names in ``__init__.pyi`` and those of :mod:`engine.modeling`,
:mod:`engine.hardware` and :mod:`engine.testing`; plugins import nothing else of the engine. Names are
resolved on first use, so that ``import engine`` costs nothing.
"""

from __future__ import annotations

from typing import Any

from engine._public import public_names

_resolved, __dir__, __all__ = public_names(__name__, __file__)


def __getattr__(name: str) -> Any:
    if name in __all__:
        return _resolved(name)
    from engine._deprecated import former_name

    return former_name(name)
