"""The commands ``engine scaling …``, as thin functions that import heavy modules on use."""

from __future__ import annotations

import click


@click.group()
def scaling() -> None:
    """Predicts the loss of larger trainings from smaller ones."""
