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

_LIST = re.compile(r"^MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict\(\n(.*?)^\)", re.M | re.S)
_SENSES = ("vision", "audio", "image", "vq", "speech", "audio_encoder")
"""Parts of models that read images or sound, as their configs call them."""
_NAME = re.compile(r'^\s*\("([^"]+)",', re.M)


@cache
def known() -> frozenset[str]:
    """Their names; empty where transformers' source has changed."""
    package = find_spec("transformers")
    if package is None or package.origin is None:
        return frozenset()
    file = Path(package.origin).parent / "models" / "auto" / "modeling_auto.py"
    found = _LIST.search(file.read_text(encoding="utf-8")) if file.is_file() else None
    return frozenset(_NAME.findall(found[1])) if found else frozenset()


def unsuited(config: Mapping[str, Any]) -> str | None:
    """Why a model of such a config is no causal language model of texts alone, if it says so."""
    if config.get("is_encoder_decoder"):
        return "is an encoder-decoder model, and only decoders are trained and scored here"
    needed = [kind for kind in _SENSES if isinstance(config.get(f"{kind}_config"), dict)]
    if needed:
        return f"reads more than text (its config has {needed[0]}_config); use its text model"
    return None


def unknown(architecture: str) -> str | None:
    """The error message for an unknown architecture, with similar names; None for a known one."""
    names = known()
    if not names or architecture in names:
        return None
    near = difflib.get_close_matches(architecture, names, 3, 0.7) or ["llama", "gpt2", "qwen3"]
    return (
        f"transformers has no causal language model '{architecture}'; it has {', '.join(near)} and "
        "others: see AutoModelForCausalLM in its documentation"
    )
