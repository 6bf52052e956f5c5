"""The kit with which plugin authors test their plugins, under pytest or anything else.

``check_plugin`` looks at what a plugin declares, ``check_component`` at what a component does: its
contract in :mod:`engine.component`, carried out. ``StandAloneContext`` builds components outside a
run, ``train_tiny`` trains a small model with them, and ``run_spec`` runs a whole spec.
``check_readme`` compares a README with the reference that the engine would write. Checks raise
AssertionError.
"""

from __future__ import annotations

from engine.testing.contracts import check_component
from engine.testing.declarations import check_plugin, check_readme
from engine.testing.standalone import FinishedRun, StandAloneContext, run_spec, train_tiny

__all__ = [
    "FinishedRun",
    "StandAloneContext",
    "check_component",
    "check_plugin",
    "check_readme",
    "run_spec",
    "train_tiny",
]
