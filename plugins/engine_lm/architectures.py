"""The causal language models that the installed transformers has, read from its source as data.

Importing its list imports torch, for which no check of a spec can wait.
"""

from __future__ import annotations

import difflib
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path

_LIST = re.compile(r"^MODEL_FOR_CAUSAL_LM_MAPPING_NAMES = OrderedDict\(\n(.*?)^\)", re.M | re.S)
_NAME = re.compile(r'^\s*\("([^"]+)",', re.M)


@cache
def known() -> frozenset[str]:
    """Their names; empty where the source has another shape than today's."""
    package = find_spec("transformers")
    if package is None or package.origin is None:
        return frozenset()
    file = Path(package.origin).parent / "models" / "auto" / "modeling_auto.py"
    found = _LIST.search(file.read_text(encoding="utf-8")) if file.is_file() else None
    return frozenset(_NAME.findall(found[1])) if found else frozenset()


def unknown(architecture: str) -> str | None:
    """That transformers has no such model, with those of similar names."""
    names = known()
    if not names or architecture in names:
        return None
    near = difflib.get_close_matches(architecture, names, 3, 0.7) or ["llama", "gpt2", "qwen3"]
    return (
        f"transformers has no causal language model '{architecture}'; it has {', '.join(near)} and "
        "others: see AutoModelForCausalLM in its documentation"
    )
