"""`engine scaling fit` prints what is believed, writes it, draws it, and refuses what tells nothing."""

from __future__ import annotations

import json

import pytest
from support.made_ladders import LAW, ladder, written

from engine import FittedLaw

HOSTILE = "<script>alert(1)</script>[red]x[/red]"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table of a ladder with noise; one run has a hostile name, one diverged."""
    file = written(tmp_path_factory.mktemp("fit") / "runs.csv", ladder(noise=0.003, seed=1))
    text = file.read_text(encoding="utf-8").replace("budget3-size2", HOSTILE)
    diverged = f"{HOSTILE},1000000,20000000,nan,120000000000000,1000\n"
    file.write_text(text + diverged, encoding="utf-8")
    return file


def test_what_is_printed(command, table):
    """First the law and the best models ahead, each with an interval, then every variant, in 80
    columns; names from files are plain text."""
    told, _ = command("scaling", "fit", table)
    lines = told.splitlines()
    assert lines[0].startswith("20 runs, 10T to 640T FLOPs")
    assert lines[1].startswith("believed: L = ")
    assert max(map(len, lines)) <= 80
    place = {
        word: told.index(word) for word in ("10×  ", "variant and", "constant", "N by best runs")
    }
    assert list(place.values()) == sorted(place.values())
    ahead = next(line for line in lines if line.startswith("10×"))
    assert ahead.count("[") == 3
    assert "N all, α ≠ β, E free" in told
    assert "E = 0" in told
    assert f"left out: {HOSTILE}: its loss is not finite" in " ".join(told.split())


def test_what_is_written_for_machines(command, table, tmp_path):
    """The JSON has the same law as the file, which reads back, and no figure without an interval."""
    file = tmp_path / "law.json"
    told = json.loads(command("scaling", "fit", table, "--json", "--law", file)[0])
    law = FittedLaw.read(file)
    assert {k: told["law"][k] for k in ("E", "A", "alpha")} == {
        "E": law.best.E, "A": law.best.A, "alpha": law.best.alpha,
    }  # fmt: skip
    assert [one["factor"] for one in told["optima"]] == [1, 4, 10]
    for optimum in told["optima"]:
        for name in ("parameters", "tokens", "loss"):
            span = optimum[name]
            assert span["low"] < span["value"] < span["high"]
        found = law.predict(optimum["parameters"]["value"], 0, optimum["tokens"]["value"])
        assert found.loss == pytest.approx(optimum["loss"]["value"])
        assert found.low == pytest.approx(optimum["loss"]["low"])
        truth = LAW.loss(optimum["parameters"]["value"], optimum["tokens"]["value"])
        assert found.low < truth < found.high
    assert {one["name"] for one in told["variants"]} >= {"N all, α ≠ β, E free"}
    assert told["left_out"][0]["name"] == HOSTILE
    assert told["bits_per_byte"] is None


@pytest.mark.parametrize("kind", ["png", "svg", "html"])
def test_a_plot(command, table, tmp_path, kind):
    """Is drawn without a browser; a hostile name is no markup in it."""
    file = tmp_path / f"plot.{kind}"
    command("scaling", "fit", table, "--plot", file)
    content = file.read_bytes()
    if kind == "png":
        assert content.startswith(b"\x89PNG")
    else:
        assert b"nats per token" in content
        assert b"<script>alert(1)" not in content


def test_a_plot_of_another_kind(command, table, tmp_path):
    """Is refused before anything is fitted."""
    _, told = command("scaling", "fit", table, "--plot", tmp_path / "plot.pdf", status=2)
    assert "cannot draw '.pdf'" in told


def test_files_that_are_not_overwritten(command, table, tmp_path, finished_run):
    """What is read, and what is there and is no law: refused before anything is fitted."""
    drawn, law = tmp_path / "plot.svg", tmp_path / "law.json"
    drawn.symlink_to(table)
    log = finished_run / "events.jsonl"
    for arguments, told in (
        (("--law", table), "is what is read"),
        (("--plot", drawn), "is what is read"),
        (("--law", log), "is there, and is no law"),
        (("--law", drawn.with_name("new.svg"), "--plot", drawn.with_name("new.svg")), "one file"),
    ):
        before = table.read_bytes(), log.read_bytes()
        _, error = command("scaling", "fit", table, *arguments, status=2)
        assert told in " ".join(error.split())
        assert (table.read_bytes(), log.read_bytes()) == before
    for _ in range(2):
        command("scaling", "fit", table, "--law", law)
    assert FittedLaw.read(law)


def test_a_table_that_is_not_there(command, tmp_path):
    """Is said alike by both commands that read tables."""
    said = {
        command("scaling", name, tmp_path / "none.csv", status=2)[1]
        for name in ("fit", "emergence")
    }
    assert len(said) == 1


@pytest.mark.parametrize(
    ("points", "told"),
    [
        (ladder(budgets=1, sizes=9), "one budget"),
        (ladder(budgets=2, sizes=3), "too few for a law"),
    ],
)
def test_points_that_tell_nothing(command, tmp_path, points, told):
    """End with status 2 and one message with a mend."""
    _, error = command("scaling", "fit", written(tmp_path / "runs.csv", points), status=2)
    assert told in " ".join(error.split())


def test_a_run_alone(command, finished_run):
    """Is too few, and what was found is said."""
    _, error = command("scaling", "fit", finished_run, status=2)
    assert "1 finished trainings are too few" in " ".join(error.split())


def test_files_that_cannot_be_written(command, table):
    """End with status 1, without a traceback."""
    for option in ("--law", "--plot"):
        file = table / "file.svg"
        _, error = command("scaling", "fit", table, option, file, status=1)
        assert "cannot be written" in error
