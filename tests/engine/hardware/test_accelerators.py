"""The table of accelerators: figures of data sheets and price lists, which a user's file extends."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.errors import SpecError
from engine.hardware import accelerators, find_accelerator

ENTRY = """NVIDIA H300:
  aliases: [H300]
  bf16: 2000
  fp32: 100
  memory: 288
  source: somebody's data sheet
  date: 2027
"""


@pytest.fixture
def table(tmp_path):
    """Writes a user's table."""

    def write(text: str) -> Path:
        file = tmp_path / "mine.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def test_every_figure_is_plausible_and_dated():
    """A slip of a unit or a digit would stand out; each price has its list and day."""
    for one in accelerators().values():
        assert 7e12 < one.fp32 < 1e14
        assert 5e13 < (one.fp16 or 0) < 1e16
        assert one.bf16 in (None, one.fp16)
        assert 15e9 < one.memory < 400e9
        assert 2e11 < (one.bandwidth or 0) < 1e13
        assert 15e9 < (one.links or 0) < 1e12
        assert one.network is None or one.network < (one.links or 0)
        assert 50 < (one.power or 0) < 1500
        assert re.fullmatch(r"20\d\d(-\d\d){0,2}", one.date)
        if one.price is not None:
            assert 0.2 < one.price < 20
            assert re.fullmatch(r"20\d\d-\d\d-\d\d", one.price_date or "")
            assert "on demand" in (one.price_source or "")


def test_an_accelerator_is_found_by_its_whole_name_or_alias():
    """A part of a name may be another device's; the error names the nearest."""
    a100 = find_accelerator("A100-80GB")
    assert a100 is find_accelerator("NVIDIA A100-SXM4-80GB")
    assert (a100.peak("bf16"), a100.peak("fp32"), a100.memory) == (312e12, 19.5e12, 80e9)
    with pytest.raises(SpecError, match="no data sheet of 'H100' is known; did you mean 'H100-"):
        find_accelerator("H100")
    v100 = find_accelerator("V100-32GB")
    assert v100.peak("bf16") == v100.fp32 < v100.peak("fp16")


def test_a_file_adds_accelerators(table):
    """And the table stays as it is without it."""
    one = find_accelerator("H300", table(ENTRY))
    assert (one.peak("bf16"), one.peak("fp16"), one.memory) == (2e15, 1e14, 288e9)
    assert one.power is one.price is one.links is None
    with pytest.raises(SpecError, match="no data sheet of 'H300' is known"):
        find_accelerator("H300")


def test_a_file_replaces_figures_of_known_accelerators(table):
    """Only those that it has."""
    own = "NVIDIA L4: {price: 0.25, price_source: our machines, price_date: 2026-12-01}\n"
    changed, usual = find_accelerator("L4", table(own)), find_accelerator("L4")
    assert (changed.price, changed.price_source) == (0.25, "our machines")
    assert (changed.bf16, changed.source) == (usual.bf16, usual.source)


def test_a_price_alone_is_enough_for_a_known_accelerator(table):
    """Its source is then the file, not the list of the former price."""
    file = table("NVIDIA L4: {price: 0.25}\n")
    changed = find_accelerator("L4", file)
    assert (changed.price, changed.price_source, changed.price_date) == (0.25, str(file), "")


def test_an_unknown_name_is_told_with_the_nearest(table):
    """And with the file that has them all."""
    with pytest.raises(SpecError) as error:
        find_accelerator("H100")
    told = str(error.value)
    assert "near it are 'H100-" in told
    assert "accelerators.yaml" in told
    assert told.count("'") == 10  # the name, one meant, three near


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (ENTRY.replace("2000", "fast"), ":3: NVIDIA H300.bf16: 'fast' is not a number above 0"),
        (ENTRY.replace("2000", "1e300"), ":3: NVIDIA H300.bf16: '1e300' is not a number above 0"),
        (ENTRY.replace("2000", "-1"), ":3: NVIDIA H300.bf16: '-1' is not a number above 0"),
        (ENTRY.replace("2000", "[1]"), ":3: NVIDIA H300.bf16: 'this' is not a number above 0"),
        (
            ENTRY.replace("bf16", "bf61"),
            ":3: NVIDIA H300.bf61: unknown field; did you mean 'bf16'?",
        ),
        (ENTRY.replace("  memory: 288\n", ""), ":1: NVIDIA H300: lacks memory"),
        (ENTRY + "  price: 3\n", ":1: NVIDIA H300: lacks price_source, price_date"),
        (ENTRY + ENTRY, ":8: the table: duplicate name 'NVIDIA H300'"),
        (ENTRY.replace("[H300]", "[L4]"), ": 'L4' stands for 'NVIDIA L4' and for 'NVIDIA H300'"),
        (ENTRY.replace("[H300]", "H300"), ":2: NVIDIA H300.aliases: write a list of names here"),
        (ENTRY.replace("2027", "{}"), ":7: NVIDIA H300.date: write a text here"),
        ("NVIDIA L4: 3\n", ":1: NVIDIA L4: write a mapping of names here"),
        ("[1]: 2\n", ":1: the table: a name must be text"),
        ("- a\n", ":1: the table: write a mapping of names here"),
        ("", ":1: the table: write a mapping of names here"),
        ("a: [\n", ":2: not YAML: "),
        ("a: \x00", ": not YAML: "),
    ],
)
def test_faults_of_a_file_are_told_with_their_place(table, text, told):
    """File, line, field and value."""
    file = table(text)
    with pytest.raises(SpecError) as error:
        accelerators(file)
    assert f"{file}{told}" in str(error.value)


def test_a_file_that_cannot_be_read(tmp_path):
    """A folder, or nothing at all."""
    for file in (tmp_path, tmp_path / "missing.yaml"):
        with pytest.raises(SpecError, match="cannot be read"):
            accelerators(file)
