"""Configuration of the strategy `auto`."""

from __future__ import annotations

from typing import ClassVar

from engine import StrategyConfig


class Auto(StrategyConfig):
    """Chooses the installed strategy that fits into memory with the least communication, by the
    estimates of `engine plan`."""

    chooses: ClassVar[bool] = True
