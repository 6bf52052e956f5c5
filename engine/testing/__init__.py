"""The conformance kit with which plugin authors test their plugins, under pytest or any other runner.

``check_plugin`` checks a plugin's declarations, ``check_component`` that a component keeps its contract
in :mod:`engine.contracts`. ``StandAloneContext`` builds components outside a run, ``train_tiny`` trains
a small model with them, and ``run_spec`` runs a whole spec. ``check_readme`` compares a README with the
generated reference. Checks raise AssertionError.
"""

from __future__ import annotations

from engine._public import public_names

__getattr__, __dir__, __all__ = public_names(__name__, __file__)
