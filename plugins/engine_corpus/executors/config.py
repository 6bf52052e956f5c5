"""Configuration of the executor ``ray``."""

from __future__ import annotations

from pydantic import Field

from engine import Config, Count


class Ray(Config):
    """Prepares a corpus by tasks of Ray: of the cluster that RAY_ADDRESS names, whose machines all have
    the run's folder and the same packages, or else of one that is started here."""

    cpus: Count | None = Field(
        None, description="Cores of a Ray that is started here; without it, all of them."
    )
