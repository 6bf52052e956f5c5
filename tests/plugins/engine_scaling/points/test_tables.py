"""Points of tables."""

from __future__ import annotations

import shutil

import pytest
from engine_scaling.points.reading import read_points

from engine import SpecError


def table(tmp_path, text):
    file = tmp_path / "runs.csv"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_table_s_points(tmp_path):
    """Has what its columns say; FLOPs are 6·N·D, and rows are named by their lines, without others."""
    text = (
        "parameters,tokens,loss,body,unique,seed,name\n1e6, 2e7,3.5,8e5,1e7,0,a\n2e6,1e7,nan,,,,b\n"
    )
    found = read_points([table(tmp_path, text)])
    (point,) = found.points
    assert (point.name, point.parameters, point.tokens, point.loss) == ("a", 1e6, 2e7, 3.5)
    assert (point.body, point.unique, point.seed) == (8e5, 1e7, (0, 0))
    assert point.flops == 6 * 1e6 * 2e7
    assert found.left_out == (("b", "its loss is not finite"),)
    assert "6·N·D" in found.notes[0]
    (plain,) = read_points([table(tmp_path, "loss,tokens,parameters\n3,1e7,1e6\n")]).points
    assert plain.name == "runs.csv:2"
    billions = "parameters,tokens,loss\n0.5,0.9,3\n"
    assert read_points([table(tmp_path, billions)]).points[0].parameters == 0.5


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "runs.csv:1: column 'parameters' is missing"),
        ("parameters,tokens\n1,2\n", "runs.csv:1: column 'loss' is missing"),
        ("parameters,tokens,loss,flop\n", "runs.csv:1: column 'flop' is unknown"),
        ("parameters,tokens,loss,loss\n", "runs.csv:1: column 'loss' is there twice"),
        (
            "parameters,tokens,loss\n1e6,1e7,3\n1e6,many,3\n",
            "runs.csv:3: tokens 'many' is not a pos",
        ),
        ("parameters,tokens,loss\n0,1e7,3\n", "runs.csv:2: parameters '0' is not a positive"),
        ("parameters,tokens,loss\n1e6,1e7,-3\n", "runs.csv:2: loss '-3' is not a positive"),
        ("parameters,tokens,loss\n1e6,1e7\n", "runs.csv:2: the row has another number of fields"),
        ("parameters,tokens,loss\n1,1,1,1\n", "runs.csv:2: the row has another number of fields"),
        ("parameters,tokens,loss,body\n1e6,1e7,3,2e6\n", "runs.csv:2: body 2e6 is more than all"),
        (
            "parameters,tokens,loss,unique\n1e6,1e7,3,2e7\n",
            "runs.csv:2: unique 2e7 is more than all",
        ),
        ('parameters,tokens,loss\n"1e6,1e7,3\n', "runs.csv:.*: is no table"),
        (
            "parameters,tokens,loss,steps\n1e6,1e7,3,0\n",
            "steps '0' is not a positive number.*empty if it is not known",
        ),
        (
            "parameters,tokens,loss,flops\n1e6,1e7,3,0\n",
            "flops '0' is not a positive number.*empty if it is not known",
        ),
        ("parameters,tokens,loss,steps\n1e6,1e7,3,0.5\n", "steps '0.5' is not a whole number"),
        ("parameters,tokens,loss,seed\n1e6,1e7,3,-1\n", "seed '-1' is not a number of 0 or more"),
        ("parameters,tokens,loss\n1e300,1e300,3\n", "parameters '1e300' is not between 1e-40 and"),
        ("parameters,tokens,loss\n1e-300,1e-300,3\n", "'1e-300' is not between 1e-40 and"),
    ],
)
def test_a_damaged_table(tmp_path, text, told):
    """Is refused with file, line, field and value."""
    with pytest.raises(SpecError, match=told):
        read_points([table(tmp_path, text)])


def test_tables_of_other_tokenizers(tmp_path):
    """Are refused as runs are, whether the rows stand in one table or in two."""
    text = "name,parameters,tokens,loss,tokenizer\na,1e6,1e7,3,x\nb,1e6,1e7,3,y\n"
    with pytest.raises(SpecError, match=r"different tokenizers.*x: a; y: b"):
        read_points([table(tmp_path, text)])
    assert len(read_points([table(tmp_path, text.replace(",y", ",x"))]).points) == 2


def test_a_table_that_is_given_twice(tmp_path):
    """Counts once, as a copy of it does, and as rows that are alike in all columns do."""
    text = (
        "parameters,tokens,loss,seed,name\n1e6,1e7,3,,\n1e6,1e7,3,,\n1e6,1e7,3,1,\n1e6,1e7,3,1,a\n"
    )
    whole, other = table(tmp_path, text), tmp_path / "OTHER.CSV"
    shutil.copy(whole, other)
    found = read_points([whole])
    assert [p.name for p in found.points] == ["runs.csv:2", "runs.csv:4", "a"]
    assert "counted once: runs.csv:3 (as runs.csv:2)." in found.notes[-1]
    again = read_points([whole, other])
    assert again.points == found.points
    assert again.notes[-1].endswith("OTHER.CSV:4 (as runs.csv:4) and 1 more.")


def test_many_that_cannot_be_compared_are_not_all_named(tmp_path):
    """A few are, and how many more there are."""
    rows = "".join(f"run{n},1e6,1e7,3,t{n}\n" for n in range(22))
    with pytest.raises(SpecError, match="t0: run0; t1: run1; t2: run2; t3: run3 and 18 more;"):
        read_points([table(tmp_path, f"name,parameters,tokens,loss,tokenizer\n{rows}")])


def test_empty_cells_are_unknown(tmp_path):
    """In columns that a table need not have."""
    text = "parameters,tokens,loss,steps,flops,stderr\n1e6,1e7,3,,,\n"
    (point,) = read_points([table(tmp_path, text)]).points
    assert (point.steps, point.flops) == (0, 6e13)


def test_a_table_that_is_not_there(tmp_path):
    """Is said, whatever the case of its suffix."""
    for name in ("none.csv", "none.CSV"):
        with pytest.raises(SpecError, match=f"{name}: cannot be read: No such file or directory"):
            read_points([tmp_path / name])
