"""The metadata at the beginning of a model card, as the Hugging Face Hub reads it."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from huggingface_hub import EvalResult, ModelCardData

from engine import cleaned

_HUB_NAME = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")
_LICENCES = set(
    """
afl-3.0 agpl-3.0 apache-2.0 artistic-2.0 bsd-2-clause bsd-3-clause bsd-3-clause-clear bsl-1.0 cc0-1.0
cc-by-2.0 cc-by-2.5 cc-by-3.0 cc-by-4.0 cc-by-nc-2.0 cc-by-nc-3.0 cc-by-nc-4.0 cc-by-nc-nd-3.0
cc-by-nc-nd-4.0 cc-by-nc-sa-2.0 cc-by-nc-sa-3.0 cc-by-nc-sa-4.0 cc-by-nd-4.0 cc-by-sa-3.0 cc-by-sa-4.0
cdla-permissive-1.0 cdla-permissive-2.0 cdla-sharing-1.0 ecl-2.0 epl-1.0 epl-2.0 eupl-1.1 eupl-1.2 gfdl
gpl-2.0 gpl-3.0 isc lgpl-2.1 lgpl-3.0 lppl-1.3c mit mpl-2.0 ms-pl ncsa odbl odc-by ofl-1.1 osl-3.0 pddl
postgresql unlicense wtfpl zlib
""".split()
)
"""The Hub's identifiers of licences, those of them that are SPDX's in small letters."""
_FORMER = {"bsd-2-clause-views": "bsd-2-clause", "odc-by-1.0": "odc-by", "pddl-1.0": "pddl"}
_TASKS = {
    "ForCausalLM": "text-generation",
    "LMHeadModel": "text-generation",
    "ForSequenceClassification": "text-classification",
}
"""The Hub's task by the end of an architecture's name."""
_NO_LICENCE = {"", "unknown", "none"}


def metadata(
    name: str,
    config: Mapping[str, Any],
    licences: Iterable[str] | None,
    scores: Sequence[Mapping[str, Any]],
    *,
    base_model: str | None,
    datasets: Iterable[str],
    tags: Sequence[str],
) -> str:
    """The block of YAML between two lines ``---``.

    ``config``: the model's config.json; ``licences``: those of all documents that it has learned from,
    None where they are not known; ``base_model`` and ``datasets``: names on the Hub, or folders, which
    are left out. What is not known is left out.
    """
    base = base_model if base_model is not None and _is_on_hub(base_model) else None
    task = task_of(config)
    fields: dict[str, Any] = {} if base_model is not None else _license(licences)
    if base is not None:
        fields |= {"base_model": base, "base_model_relation": "finetune"}
    data = ModelCardData(
        model_name=plain(name),
        library_name="transformers",
        pipeline_tag=task,
        tags=["training-engine", *map(plain, tags)],
        datasets=[one for one in datasets if _is_on_hub(one)] or None,
        eval_results=list(_results(task or "text-generation", scores)) or None,
        **fields,
    )
    return f"---\n{data.to_yaml()}\n---\n"


def plain(text: object) -> str:
    """A text on one line, with what would control a terminal written out."""
    return " ".join(cleaned(str(text)).split())


def task_of(config: Mapping[str, Any]) -> str | None:
    """The Hub's task of a model, by its architecture; None for another."""
    names = config.get("architectures") or [""]
    return next((task for end, task in _TASKS.items() if str(names[0]).endswith(end)), None)


def _is_on_hub(name: str) -> bool:
    return _HUB_NAME.fullmatch(name) is not None and not os.path.exists(name)


def _license(licences: Iterable[str] | None) -> dict[str, str]:
    """The licence that all documents have; nothing if there are several or one is not known."""
    found = {re.sub(r"-(only|or-later)$", "", plain(one).lower()) for one in licences or ()}
    if len(found) != 1 or found & _NO_LICENCE:
        return {}
    (one,) = found
    one = _FORMER.get(one, one)
    if one in _LICENCES:
        return {"license": one}
    return {
        "license": "other",
        "license_name": re.sub(r"[^a-z0-9.]+", "-", one).strip("-") or "other",
    }


def _results(task: str, scores: Sequence[Mapping[str, Any]]) -> Iterable[EvalResult]:
    # Of a score that several stages have, the last one.
    last = {(score.get("evaluator"), score["metric"]): score for score in scores}
    for score in last.values():
        evaluator = plain(score.get("evaluator") or score["metric"])
        if score["value"] is not None and math.isfinite(score["value"]):
            yield EvalResult(
                task_type=task,
                dataset_type=re.sub(r"[^A-Za-z0-9_.]+", "-", evaluator),
                dataset_name=evaluator,
                metric_type=re.sub(r"[^A-Za-z0-9_.]+", "-", plain(score["metric"])),
                metric_name=plain(score["metric"]),
                metric_value=score["value"],
            )
