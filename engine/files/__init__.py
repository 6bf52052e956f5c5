"""Safe access to files that a spec or a run's folder names."""

from __future__ import annotations

from engine.files.matching import each_once, expanded, matches, unmatched, version_of

__all__ = ["each_once", "expanded", "matches", "unmatched", "version_of"]
