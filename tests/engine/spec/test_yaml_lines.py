"""YAML that is no spec's: each fault with its line, and nothing that surprises."""

from __future__ import annotations

import re
import time

import pytest

from engine.errors import SpecError
from engine.spec.yaml_lines import parse

BOMB = "a: &b0 [1, 1, 1]\n" + "".join(
    f"x{i}: &b{i} [*b{i - 1}, *b{i - 1}, *b{i - 1}]\n" for i in range(1, 40)
)
MERGE_BOMB = "a: &b0 {k: 1}\n" + "".join(
    f"x{i}: &b{i} {{<<: [*b{i - 1}, *b{i - 1}]}}\n" for i in range(1, 60)
)


def _parse(text: str):
    return parse(text, lambda line: f"spec.yaml:{line}")


@pytest.mark.parametrize(
    ("text", "problems"),
    [
        ("a: 1\n\tb: 2", ["2: not YAML: found character .* token; indent with spaces"]),
        ("a: 1\nb: 'open\nc: 2", ["3: not YAML: .*end of stream.* begins in line 2"]),
        ("a: {b: 1\n", ["2: not YAML: expected ',' or '}'.* begins in line 1"]),
        ("a: 1\nb: @x", ["2: not YAML: found character '@'"]),
        ("a: 1\nb: [*x]", ["2: not YAML: found undefined alias 'x'"]),
        ("a: 1\n---\nb: 1", ["2: not YAML: but found another document"]),
        ('a: 1\nb: "\\UFFFFFFFF"', ["2: not YAML: Python int too large"]),
        ("a: 1\nb: \0", ["2: not text: character 0x00"]),
        ("a: 1\nb: {c: 1, c: 2}\na: 3", ["2: duplicate key 'c'", "3: duplicate key 'a'"]),
        ("1: a\nyes: b\n? [x]\n: c", ["1: a key must be text; write '1' in quotes", "2: .*'yes'",
                                      "3: a key must be text, not a list or a mapping"]),
        ("a: !!python/object:os.system x\nb: !x {c: 1}\nc: !!set {d}",
         ["1: the tag '.*os.system' is not supported", "2: the tag '!x'", "3: the tag '.*:set'"]),
        ("a: !!int ''\nb: !!float ''\nc: !!bool ''\nd: !!int '-'",
         ["1: '' is not a valid int", "2: '' is not a valid float", "3: '' is not a valid bool",
          "4: '-' is not a valid int"]),
        ("a: 0x" + "F" * 6000 + "\nb: 0b" + "1" * 6000 + "\nc: -0x" + "F" * 6000,
         ["1: '0xF+' is not a valid int: it is too large", "2: '0b1+' is not a valid int",
          "3: '-0xF+' is not a valid int"]),
        ("a: 0b_\nb: !!bool x\nc: " + "9" * 5000,
         ["1: '0b_' is not a valid int", "2: 'x' is not a valid bool",
          "3: '9{40}' is not a valid int"]),
        ("a: 1\n<<: 5", ["2: '<<' must be a mapping"]),
        ("a: &a\n  b: *a", ["2: not YAML: the alias '\\*a' contains itself"]),
        ("a: &a {<<: *a}", ["1: not YAML: the alias '\\*a' contains itself"]),
        ("a: " + "[" * 5000, ["1: not YAML: nested deeper than 60 levels"]),
        ("".join(" " * i + "a:\n" for i in range(200)), ["61: not YAML: nested deeper"]),
        (BOMB, [r"\d+: more than 100,000 values; do aliases repeat one another\?"]),
        (MERGE_BOMB, [r"\d+: more than 100,000 values"]),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else "",
)  # fmt: skip
def test_every_fault_is_told_with_its_line(text, problems):
    """At once where YAML can be read any further, and soon, however it is meant."""
    with pytest.raises(SpecError) as caught:
        _parse(text)
    for found, expected in zip(caught.value.problems, problems, strict=True):
        assert re.match(f"spec.yaml:{expected}", found)


def test_values_are_json_s():
    """Dates stay text, numbers with an exponent are numbers."""
    source = _parse("a: 2020-13-45\nb: 1e-3\nc: .5e2\nd: =\ne: 10:30:00 x\nf: ~\ng: no")
    assert source.data == {
        "a": "2020-13-45", "b": 1e-3, "c": 50.0, "d": "=", "e": "10:30:00 x", "f": None, "g": False
    }  # fmt: skip


def test_aliases_are_copies():
    """So that changing one of them (`--set`, `extends`) leaves the others alone."""
    data = _parse("a: &x {b: [1]}\nc: *x\nd: {<<: *x, e: 2}").data
    data["a"]["b"].append(2)
    assert data == {"a": {"b": [1, 2]}, "c": {"b": [1]}, "d": {"b": [1], "e": 2}}


def test_what_is_merged_in_gives_way_to_what_stands_there():
    """`<<` as YAML has it: own keys first, then the first of several mappings."""
    source = _parse(
        "a: &a {x: 1, y: {z: 1}}\nb: &b {x: 2, w: 2}\nc:\n  y: 3\n  <<: [*a, *b]\n  v: 4"
    )
    assert source.data["c"] == {"x": 1, "w": 2, "y": 3, "v": 4}
    assert source.mark(("c", "y")) == "spec.yaml:4"
    assert source.mark(("c", "y", "z")) == "spec.yaml:4"
    assert source.mark(("c", "x")) == "spec.yaml:1"


def test_a_place_that_is_not_there_has_the_mark_of_what_is_around_it():
    """A missing field is told where it is missing."""
    source = _parse("a:\n  b:\n    - c: 1\n    - d: 2\n")
    assert source.mark(("a", "b", 1, "d")) == "spec.yaml:4"
    assert source.mark(("a", "b", 1, "x", "y")) == "spec.yaml:4"
    assert source.mark(("a", "x")) == "spec.yaml:1"
    assert source.mark(("x",)) == "spec.yaml:1"


def test_keys_that_stand_in_place_of_merged_ones_take_no_time():
    """Tens of thousands of them, too: what is merged in is not read where it would not count."""
    keys = [f"k{n}" for n in range(20_000)]
    one, two = (", ".join(f"{key}: {value}" for key in keys) for value in (1, 2))
    began = time.process_time()
    _parse(f"a: {{{one}}}\nb: {{{two}}}")
    apart = time.process_time() - began
    source = _parse(f"a: &a {{{one}}}\nb: {{<<: *a, {two}}}")
    assert time.process_time() - began < 5 * apart
    assert list(source.data["b"]) == keys
    assert set(source.data["b"].values()) == {2}


def test_a_number_by_sixties_that_no_float_holds_is_told():
    """YAML reads 1:30.5 as one."""
    with pytest.raises(SpecError, match=r"spec.yaml:1: '1:1:.*' is not a valid float"):
        _parse("a: " + "1:" * 400 + "1.5")
