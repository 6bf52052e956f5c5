"""The causal language models of the installed transformers, read from its source text.

Importing the list would import torch, which takes too long for checking a spec.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine import Architecture, Plugins
from engine_lm.trials import table

_LISTS = re.compile(r"^MODEL_FOR_(\w+)_MAPPING_NAMES = OrderedDict\(\n(.*?)^\)", re.M | re.S)
_SENSES = ("vision", "audio", "image", "vq", "speech", "audio_encoder")
"""Parts of models that read images or sound, as their configs call them."""
_OF_IMAGES = ("image_size", "vision_embed_dim")
_NAME = re.compile(r'^\s*\("([^"]+)",', re.M)


def known() -> frozenset[str]:
    """Their names; empty where transformers' source has changed."""
    return _lists().get("CAUSAL_LM", frozenset())


def scalar_head_fault(architecture: str) -> str | None:
    """Why an architecture cannot have a scalar head; None if it can, as far as the names tell."""
    names = _lists().get("SEQUENCE_CLASSIFICATION", frozenset())
    if not names or architecture in names:
        return table.refusal(architecture, "scalar")
    own = declared(architecture)
    if own is not None and own[1].scalar:
        return None
    place = f"the plugin '{own[0]}'" if own else "transformers"
    return f"{place} has no '{architecture}' with a scalar head"


@cache
def _lists() -> dict[str, frozenset[str]]:
    """Architectures by what their models are for."""
    package = find_spec("transformers")
    if package is None or package.origin is None:
        return {}
    file = Path(package.origin).parent / "models" / "auto" / "modeling_auto.py"
    found = _LISTS.findall(file.read_text(encoding="utf-8")) if file.is_file() else []
    return {name: frozenset(_NAME.findall(listed)) for name, listed in found}


def declared(architecture: str) -> tuple[str, Architecture] | None:
    """The name of the installed plugin that declares an architecture, and what it declares; None if
    there is none."""
    return next(
        (
            (plugin.name, one)
            for plugin in Plugins.discover().plugins
            for one in plugin.architectures
            if one.model_type == architecture
        ),
        None,
    )


def refused(architecture: str) -> str | None:
    """Why an architecture cannot be used at all; None for one that can, or that was not tried."""
    return unknown(architecture) or table.refusal(architecture, "opens")


def unsuited(config: Mapping[str, Any]) -> str | None:
    """Why a model of such a config is no causal language model of texts alone, if it says so."""
    if config.get("is_encoder_decoder"):
        return "is an encoder-decoder model, and only decoders are trained and scored here"
    senses = [f"{kind}_config" for kind in _SENSES]
    parts = [name for name in (*senses, *_OF_IMAGES) if name in config]
    if parts:
        return f"reads more than text (its config has {parts[0]}); use its text model"
    return None


def unknown(architecture: str) -> str | None:
    """The error message for an unknown architecture, with similar names; None for a known one."""
    names = known()
    if not names or architecture in names or declared(architecture):
        return None
    near = difflib.get_close_matches(architecture, names, 3, 0.7) or ["llama", "gpt2", "qwen3"]
    return (
        f"transformers {table.installed()} has no causal language model '{architecture}'; it has "
        f"{', '.join(near)} and others, which `engine models` lists; the engine was tried with "
        f"transformers {table.tried().transformers}"
    )
