"""Scores from a CSV file: what is said of them, drawn, and refused."""

from __future__ import annotations

import re

import numpy as np
import pytest

PLACES = np.linspace(17, 21, 10)


def rows(n=400, seed=0, places=PLACES, **columns):
    """Scores of invented models, whose threshold is 1e19."""
    p = 0.25 + 0.65 / (1 + np.exp(-2 * (places - 19)))
    shares = np.random.default_rng(seed).binomial(n, p) / n
    return [
        {"flops": f"{10.0**x:.6g}", "score": str(share), "n": n, **columns}
        for x, share in zip(places, shares, strict=True)
    ]


def with_logprobs():
    return [
        row | {"logprob": f"{-3 * 10 ** (-0.1 * i):.4f}", "name": f"a{i}"}
        for i, row in enumerate(rows(chance=0.25))
    ]


def test_what_is_printed(command, table):
    """Each score with its interval, the threshold with its, predictions, and priors as no more."""
    out, _ = command("scaling", "emergence", table(with_logprobs()))
    assert "scores.csv: 10 scores, 0.25 by chance" in out
    assert "above chance" in out
    assert "threshold: " in out
    assert "half way from chance to a ceiling of" in " ".join(out.split())
    assert "score by it" in out
    assert "nothing is predicted from it" in out
    assert "arXiv:2201.11903" in out
    assert max(map(len, out.splitlines())) <= 80


def test_figures_for_machines(tell, table):
    """The same, and nothing where nothing is told."""
    said = tell(table(rows()), "--chance", "0.25")
    assert said["threshold"]["low"] < 1e19 < said["threshold"]["high"]
    assert [p["times"] for p in said["predictions"]] == [4, 10]
    assert said["log_probability"] is None
    assert said["untold"] is None
    assert {prior["said"] for prior in said["priors"]} == {1e9, 1e10, 1e11, 1e12}
    low = tell(table(rows()[:4]), "--chance", "0.25")
    assert low["threshold"] is None
    assert low["curve"] is None
    assert "above chance by the binomial interval" in low["untold"]
    assert all(one["score"] is None for one in low["predictions"])


def test_a_threshold_that_is_not_bounded_has_no_value(tell, table, command):
    """Only the bound that there is."""
    file = table(rows(20_000, places=np.linspace(16, 17.1, 10)))
    said = tell(file, "--chance", "0.25")["threshold"]
    assert (said["value"], said["high"]) == (None, None)
    out, _ = command("scaling", "emergence", file, "--chance", "0.25")
    assert f"threshold: at least {said['low']:.3g} FLOPs" in out


def test_a_threshold_beyond_the_largest_training_is_told_as_such(command, table):
    """With what bounds it."""
    file = table(rows(2000, places=np.linspace(16, 18.5, 10)))
    out, _ = command("scaling", "emergence", file, "--chance", "0.25")
    assert "threshold: " in out
    assert "beyond the largest training" in out


def test_too_little_is_said_in_words(command, table):
    """How many scores are above chance, and that no threshold is to be told."""
    out, _ = command("scaling", "emergence", table(rows()[:4]), "--chance", "0.25")
    assert "threshold: not to be told: " in out
    assert "of 4 are above chance" in out


@pytest.mark.parametrize("kind", ["png", "svg", "html"])
def test_a_plot(command, table, tmp_path, kind):
    """Whole in each kind, with nothing from elsewhere."""
    file = tmp_path / "drawn" / f"scores.{kind}"
    out, _ = command("scaling", "emergence", table(with_logprobs()), "--plot", file)
    assert "drawn: " in out
    content = file.read_bytes()
    if kind == "png":
        assert content.startswith(b"\x89PNG")
    else:
        text = content.decode()
        assert ("training FLOPs" in text, "log-probability" in text) == (True, True)
        assert re.search("<script|src=|@import", text) is None
    assert [one.name for one in file.parent.iterdir()] == [file.name]


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("scores.pdf", 2, "cannot draw '.pdf'; name a .png, .svg or .html"),
        ("file/scores.png", 1, "cannot be written"),
    ],
)
def test_a_plot_that_cannot_be_drawn(command, table, tmp_path, name, status, told):
    """Says why."""
    (tmp_path / "file").write_text("")
    file = table(rows(chance=0.25))
    _, err = command("scaling", "emergence", file, "--plot", tmp_path / name, status=status)
    assert told in err


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"score": "45"}, "scores.csv:2: score: 45 is no share of items; divide percentages by 100"),
        ({"score": "nan"}, "scores.csv:2: score: nan is no share"),
        ({"score": ""}, "scores.csv:2: score: has no value"),
        ({"flops": "0"}, "scores.csv:2: flops: 0 is not between 1e-40 and 1e+40"),
        ({"flops": "1e999"}, "scores.csv:2: flops: inf is not between"),
        ({"flops": "much"}, "scores.csv:2: flops: 'much' is no number"),
        ({"n": "2.5"}, "scores.csv:2: n: '2.5' is no whole number"),
        ({"n": "inf"}, "scores.csv:2: "),
        ({"n": "0"}, "scores.csv:2: n: 0 is no number of items"),
        ({"logprob": "0.5"}, "scores.csv:2: logprob: 0.5 is no log-probability"),
        ({"chance": "1"}, "scores.csv:2: chance: 1 is not between 0 and 1"),
        ({"chance": "0.5"}, "the scores by chance differ: 0.25, 0.5"),
    ],
    ids=str,
)  # fmt: skip
def test_values_that_cannot_be(command, table, changed, told):
    """Are refused with file, line and column."""
    found = rows(chance=0.25, logprob=-1)
    found[0] |= changed
    assert told in command("scaling", "emergence", table(found), status=2)[1]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "has no column flops and no column score and no column n"),
        ("flops,score\n1,1\n", "has no column n"),
        ("flops,score,n,loss\n", "columns that mean nothing here: loss"),
        ("flops,score,n,n\n", "column 'n' is there twice"),
        ("flops,score,n\n1,1,1,1\n", "scores.csv:2: has more values than there are columns"),
        ('flops,score,n\n"1,1,1\n', "is no CSV"),
        ("flops,score,n\n1e18,0.5,100\n", "1 scores at 1 amounts of FLOPs"),
        (
            "flops,score,n,name\n" + "".join(f"1e18,0.5,100,a{n}\n" for n in range(9)),
            "9 scores at 1 amounts of FLOPs",
        ),
        (
            "flops,score,n\n" + "1e18,0.5,100\n" * 9,
            "1 scores at 1 amounts of FLOPs; left out: line 3, line 4, line 5, line 6 and 4 more",
        ),
        ("\0", "has no column flops"),
        ("flops,score,n\n" + "".join(f"{n}e18,0.5,9\n" for n in range(1, 2101)), "2,100 scores"),
    ],
    ids=lambda value: value[:20],
)  # fmt: skip
def test_files_that_cannot_be(command, tmp_path, text, told):
    """Are refused with what is wrong."""
    file = tmp_path / "scores.csv"
    file.write_text(text, encoding="utf-8")
    assert told in command("scaling", "emergence", file, "--chance", 0.25, status=2)[1]


def test_files_that_are_no_text_or_are_not_there(command, tmp_path):
    """Say so."""
    file = tmp_path / "scores.csv"
    file.write_bytes(b"\xff\xfe\x00")
    assert "is no CSV" in command("scaling", "emergence", file, status=2)[1]
    assert "No such file" in command("scaling", "emergence", tmp_path / "none.csv", status=2)[1]


def test_rows_that_are_alike_in_all_columns(tell, table):
    """Count once and are named; those with names of their own are repetitions."""
    found = rows(chance=0.25)
    alike = tell(table([*found, found[3]]))
    assert len(alike["points"]) == 10
    assert alike["left_out"] == ["line 12: given before, and counted once"]
    named = [row | {"name": f"a{i}"} for i, row in enumerate([*found, found[3]])]
    assert len(tell(table(named))["points"]) == 11


def test_a_chance_above_all_scores(command, tell, table):
    """Is told as such; scores that are but a little below it are at chance."""
    assert tell(table(rows()), "--chance", "0.99")["untold"] == (
        "all scores are below chance: is 0.99 the score by guessing?"
    )
    found = [row | {"score": 0.249} for row in rows()]
    assert "0 scores are above chance" in tell(table(found), "--chance", "0.25")["untold"]


def test_chance_is_not_guessed(command, table, tell):
    """It stands in the file, or the user gives it, who overrides the file."""
    _, err = command("scaling", "emergence", table(rows()), status=2)
    assert "the score by chance is not known" in err
    assert "--chance 0.25" in err
    _, err = command("scaling", "emergence", table(rows()), "--chance", "25", status=2)
    assert "--chance: 25 is not between 0 and 1" in err
    assert tell(table(rows(chance=0.25)), "--chance", "0.2")["chance"] == 0.2


def test_options_of_runs_do_not_go_with_a_file(command, table):
    """Nor do two files."""
    file = table(rows(chance=0.25))
    for option in ("--metric", "--model"):
        _, err = command("scaling", "emergence", file, option, "acc", status=2)
        assert f"{option} chooses among the scores of runs" in err
    assert "is no folder" in command("scaling", "emergence", file, file, status=2)[1]
