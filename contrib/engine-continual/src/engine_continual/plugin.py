"""What this plugin declares."""

from __future__ import annotations

from collections.abc import Sequence

from engine import Component, hookimpl


@hookimpl
def engine_penalties() -> Sequence[Component]:
    """Elastic weight consolidation."""
    return [
        Component(
            "ewc",
            "engine_continual.config:ElasticWeights",
            "engine_continual.elastic_weights:build",
            "Elastic weight consolidation: holds the weights that old texts depend on.",
        )
    ]


@hookimpl
def engine_data_sources() -> Sequence[Component]:
    """Replay."""
    return [
        Component(
            "replay",
            "engine_continual.config:Replay",
            "engine_continual.replay:build",
            "A source of new records with a share of old ones mixed in.",
        )
    ]
