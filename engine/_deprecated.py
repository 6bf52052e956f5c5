"""Former public names and keywords: each works for one more version, with a DeprecationWarning."""

from __future__ import annotations

import importlib
import sys
import warnings
from typing import Any

_RENAMED = {
    "BaseCallback": ("engine", "Callback"),
    "BaseObjective": ("engine", "Objective"),
    "BaseOnlineObjective": ("engine_rlhf.online", "RolloutObjective"),
    "BaseTrainer": ("engine", "ExternalLoop"),
    "Companion": ("engine_rlhf.online", "Companion"),
    "Round": ("engine_rlhf.online", "Round"),
}
_NOW_IN_MODELING = frozenset(
    """
    IGNORE ObjectiveModule Piece RecordError attend average_decay compile_layers continuation
    conversation_pieces cross_entropy document_tokens end_of_turn example_tokens head
    hidden_states join label_places labelled_rows layers loss_terms
    mark_bounds pack padded parameter_groups place prompt_tokens ratio
    reads_packed recompute_layers token_logprobs with_scalar_head
    """.split()
)
_NOT_PUBLIC = {
    "Interval": ("contracts.amounts", "take an engine.Amount and check that its value is above 0"),
    "ParameterGroup": ("contracts.component_config", "give `groups` as mappings"),
    "PluginError": ("errors", "raise engine.RunError, catch engine.EngineError"),
    "Stage": ("contracts.spec", "ask engine.Spec.stages"),
    "units": ("contracts.amounts", "check the unit of an engine.Amount in a pydantic validator"),
}
"""No plugin needs them: where each is defined, and what to write in its place."""
_GONE = {
    "Attack": "subclass engine.OwnRequest, which answers itself",
    "Candidate": "let StrategyConfig.suggestions give fields worth a try",
}


def former_name(name: str) -> Any:
    """The object behind a former public name of :mod:`engine`.

    Raises AttributeError; ImportError for a name that is gone, because ``from engine import`` shows
    only the message of that.
    """
    if name in _GONE:
        raise ImportError(f"engine.{name} is gone: {_GONE[name]}", name="engine")
    if name in _NOT_PUBLIC:
        module, advice = _NOT_PUBLIC[name]
        warn(f"engine.{name} is no longer public: {advice}")
        return getattr(importlib.import_module(f"engine.{module}"), name)
    module, now = _RENAMED.get(name, ("engine.modeling", name))
    if name not in _RENAMED and name not in _NOW_IN_MODELING:
        raise AttributeError(f"module 'engine' has no attribute {name!r}")
    warn(f"engine.{name} is now {module}.{now}")
    return getattr(importlib.import_module(module), now)


def warn(message: str) -> None:
    """Warns a plugin's author what to write instead, at the line outside the engine that led here."""
    frame = sys._getframe(1)
    while frame.f_back and frame.f_globals["__name__"].partition(".")[0] in ("engine", "importlib"):
        frame = frame.f_back
    warnings.warn_explicit(
        f"{message}; the former use becomes an error in the next version",
        DeprecationWarning,
        frame.f_code.co_filename,
        frame.f_lineno,
        frame.f_globals["__name__"],
        frame.f_globals.setdefault("__warningregistry__", {}),
    )
