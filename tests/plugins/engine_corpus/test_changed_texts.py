"""Processors and steps say at which settings they replace texts."""

from __future__ import annotations

from typing import Any

import pytest

from engine import Text
from engine.testing import StandAloneContext, processed

_SENTENCES = [f"This is sentence number {n} of a text about the number {n}." for n in range(60)]
_TEXTS = [
    "\n".join(["Short", *_SENTENCES]),
    "\n".join(["Write to jane.doe@gmail.com about it.", *_SENTENCES[::-1]]),
    " ".join([*_SENTENCES[:20], *(f"Other words are here, {n} of them." for n in range(40))]),
]


@pytest.mark.parametrize(
    ("type_", "settings", "changes"),
    [
        ("c4", {}, True),
        ("c4", {"drop": False}, False),
        ("pii", {}, True),
        ("pii", {"action": "drop"}, False),
        ("pii", {"action": "annotate"}, False),
        ("substring-dedup", {}, True),
        ("near-dedup", {"threshold": 0.5}, False),
        ("exact-dedup", {}, False),
        ("gopher", {}, False),
        ("fineweb", {}, False),
        ("word-list", {"list": ["number"]}, False),
        ("language", {"keep": ["de"]}, False),
        ("length", {"max": 10}, False),
    ],
)
def test_what_a_config_says_is_what_its_processor_does(
    type_: str, settings: dict[str, Any], changes: bool
):
    """Of three texts with short lines, an address, and passages that they share."""
    context = StandAloneContext()
    kind = next(k for k in ("processor", "corpus-step") if type_ in context.configs(k))
    config = context.configs(kind)[type_].model_validate({"type": type_, **settings})
    records = [Text(id=str(n), source="texts", text=text) for n, text in enumerate(_TEXTS)]
    found = processed(context.build(kind, {"type": type_, **settings}), records)
    pairs = zip(found, records, strict=True)
    changed = any(isinstance(one, Text) and one.text != record.text for one, record in pairs)
    assert changed == changes == config.changes_texts()


@pytest.mark.parametrize(
    ("processors", "notice"),
    [
        ([{"type": "near-dedup"}, {"type": "pii"}], "`pii` replaces texts after `near-dedup`"),
        (
            [{"type": "exact-dedup"}, {"type": "gopher"}, {"type": "c4"}],
            "`c4` replaces texts after",
        ),
        ([{"type": "pii"}, {"type": "near-dedup"}, {"type": "substring-dedup"}], None),
        ([{"type": "near-dedup"}, {"type": "pii", "action": "drop"}], None),
    ],
)
def test_validate_says_where_copies_may_come_back(
    processors, notice, tiny_spec, command, write_spec
):
    """A text that is replaced after copies were removed may become one."""
    tiny_spec["stages"]["corpus"]["prepare"]["processors"] = processors
    _, err = command("validate", write_spec(tiny_spec))
    assert (notice or "") in err
    assert ("notice" in err) == (notice is not None)
