"""``python -m engine.cli``: the command ``engine``."""

from __future__ import annotations

from engine.cli import main

main()
