"""The page shows a spec with its defaults, and where several specs differ."""

from __future__ import annotations

import yaml
from engine_report.page.specs import differences, spec_lines

SPEC = {
    "engine": 1,
    "name": "a",
    "stages": {
        "base": {
            "train": {
                "optimizer": {"lr": 0.01, "betas": [0.9, 0.95], "type": "adamw"},
                "evaluate": [{"every": "10%", "limit": None, "type": "perplexity"}],
                "callbacks": [],
            }
        }
    },
}
GIVEN = {
    "stages": {"base": {"train": {"optimizer": {"lr": 0.01}, "evaluate": [{"type": "perplexity"}]}}}
}


def written(spec, given=None):
    lines = spec_lines(spec, given)
    return "\n".join(f"{line.indent}{line.key} {line.value}" for line in lines)


def test_the_lines_are_the_spec():
    """As YAML, they say the same; a component's type stands first."""
    assert yaml.safe_load(written(SPEC)) == SPEC
    assert "optimizer: \n        type: adamw\n        lr: 0.01" in written(SPEC)
    assert "- type: perplexity" in written(SPEC)


def test_defaults_are_told_from_what_was_given():
    """Where the run says what was given, also within lists; else nothing counts as a default."""
    defaults = {line.key for line in spec_lines(SPEC, GIVEN) if line.default}
    assert defaults == {"engine:", "name:", "type:", "betas:", "callbacks:", "every:", "limit:"}
    assert not any(line.default for line in spec_lines(SPEC, None))
    assert all(line.default for line in spec_lines(SPEC, {}))


def test_only_fields_that_differ_are_shown():
    """By their paths, lists of components item by item; names differ anyway."""
    other = yaml.safe_load(yaml.safe_dump(SPEC))
    other["name"] = "b"
    train = other["stages"]["base"]["train"]
    train["optimizer"]["lr"] = 0.02
    train["evaluate"][0]["every"] = "20%"
    train["clip"] = 1.0
    found = differences(["a", "b"], [SPEC, other])
    path = "stages.base.train"
    assert list(found.rows) == [
        (f"{path}.optimizer.lr", ["0.01", "0.02"]),
        (f"{path}.evaluate.0.every", ["10%", "20%"]),
        (f"{path}.clip", ["–", "1.0"]),
    ]


def test_of_many_runs_the_fields_are_columns():
    """So that the table grows downwards."""
    labels = [f"run-{n}" for n in range(20)]
    found = differences(labels, [{"seed": n, "clip": n % 2} for n in range(20)])
    assert list(found.columns) == ["seed", "clip"]
    assert found.rows[3] == ("run-3", ["3", "1"])


def test_a_spec_that_is_nested_without_end_is_cut():
    """A damaged file cannot exhaust the stack."""
    deep: dict = {}
    other: dict = {"b": 1}
    for _ in range(5000):
        deep, other = {"a": deep}, {"a": other}
    assert len(spec_lines(deep, None)) < 200
    assert list(differences(["a", "b"], [deep, other]).rows) == []


def test_what_a_spec_does_not_have_is_one_row():
    """And so is a component of another type, whose own fields are not compared."""
    muon = {"lr": 0.02, "momentum": 0.9, "type": "muon"}
    adamw = {"lr": 0.01, "betas": [0.9, 0.95], "type": "adamw"}
    one = {"stages": {"base": {"train": {"optimizer": muon}}}}
    two = {"stages": {"base": {"train": {"optimizer": adamw}}, "chat": {"train": {"clip": 1.0}}}}
    assert list(differences(["a", "b"], [one, two]).rows) == [
        ("stages.base.train.optimizer.lr", ["0.02", "0.01"]),
        ("stages.base.train.optimizer.type", ["muon", "adamw"]),
        ("stages.chat", ["–", "train"]),
    ]
