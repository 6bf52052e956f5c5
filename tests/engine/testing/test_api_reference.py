"""The API reference has all contracts, values and names, as the code has them."""

from __future__ import annotations

import inspect
import re

import pytest

import engine
import engine.files
import engine.hardware
import engine.modeling
import engine.testing
from engine.contracts.hooks import HOOK_OF_KIND
from engine.testing.api_reference import contracts_reference, names_reference, values_reference

PACKAGES = (engine, engine.modeling, engine.hardware, engine.files, engine.testing)
LONGEST = 20
"""Lines of a docstring."""


@pytest.fixture(scope="module")
def sections() -> dict[str, str]:
    """What it says of each kind."""
    _, *parts = re.split(r"^### (.*)\n", contracts_reference(), flags=re.M)
    return dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.mark.parametrize("kind", HOOK_OF_KIND)
def test_every_kind_says_what_its_factory_returns_and_on_which_ranks_it_is_called(sections, kind):
    """By contracts with their methods; a model is torch's."""
    configuration, *contracts = re.findall(r"^\*\*`(\w+)`\*\*: ", sections[kind], re.M)
    returned = contracts if configuration.endswith("Config") else [configuration, *contracts]
    assert returned or kind == "model"
    assert re.search(r"\brank", sections[kind], re.I)


def test_contracts_have_their_signatures(sections):
    """With types as in the source, what must be defined, attributes, and fields of configurations;
    a default that is a function has no address. Each member stands there once."""
    objective, data_source = sections["objective"], sections["data-source"]
    collate = "- `collate(examples: Sequence[Example]) -> Batch` (required): "
    for line in (
        collate,
        "- `observes = False`: True if ",
        "- `train(job: Job) -> None` (required): ",
    ):
        assert objective.count(f"\n{line}") == 1
    assert objective.count("\n- `encode(") == 1
    assert "\n- field `weight`: Share of the samples, relative to other sources.\n" in data_source
    assert "progress: Callable[[int], None] = …)" in sections["inference"]
    assert "- `tokenizer() -> Any`: " in sections["Every component"]
    assert " at 0x" not in "".join(sections.values())


def test_values_are_what_a_spec_may_write():
    """As they are parsed; every type of value that is public is there."""
    text = values_reference()
    for name in ("Amount", "Count", "Interval", "Number", "Share", "VariableName"):
        assert f"| `{name}` | " in text
    for example in ("`16k` (16000)", "`1%` (0.01)", "`2h` (7200 seconds)", "`200 steps`,"):
        assert example in text


def test_every_public_name_is_described():
    """In a sentence; functions have their arguments."""
    rows = re.findall(r"^\| `(\w+)[^`]*` \| (.*) \|$", names_reference(), re.M)
    assert sorted(name for name, _ in rows) == sorted(n for p in PACKAGES for n in p.__all__)
    assert [name for name, about in rows if not about] == []
    assert "| `label_places(labels)` | Places `_N` of the labels" in names_reference()


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.__name__)
def test_help_is_short(package):
    """Docstrings fit a screen, those of methods too, and so do the signatures above them."""
    for name in package.__all__:
        value = getattr(package, name)
        own = vars(value).values() if inspect.isclass(value) else ()
        for part in (value, *filter(inspect.isfunction, own)):
            if inspect.isfunction(part) or inspect.isclass(part):
                assert len((inspect.getdoc(part) or "").splitlines()) <= LONGEST, (name, part)
                if not hasattr(part, "model_fields"):
                    assert len(str(inspect.signature(part))) < 80 * LONGEST // 2, (name, part)
