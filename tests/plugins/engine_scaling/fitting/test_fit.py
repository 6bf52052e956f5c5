"""`engine scaling fit` prints what is believed, writes it, draws it, and refuses what tells nothing."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from engine_scaling.fitting.tables import counted, short, spanned
from engine_scaling.laws.spans import Span
from support.made_ladders import LAW, SMALL, ladder, written

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
    assert "4× budgets to" in told
    assert "the least error of 12 variants over" in " ".join(told.split())
    assert next(line for line in lines if "loss at 4× of it" in line)
    assert "L(N), N ≤ 6.62M" in told
    assert "L(C), C ≤ 640T" in told
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


def test_runs_far_off_are_named(command, tmp_path):
    """With whether the law is fitted to them, and that the noise has them in it."""
    points = ladder(SMALL, noise=0.003, seed=4)
    for at, name in ((9, "used"), (19, "unused")):
        points[at] = replace(points[at], loss=points[at].loss * 1.05, name=name)
    told = " ".join(command("scaling", "fit", written(tmp_path / "runs.csv", points))[0].split())
    assert "(standard deviation, those far off that are named below included)" in told
    assert "used lies +5.0% off the law, far more than the others" in told
    assert "Far off the law, which leaves them out: unused (+" in told
    clean = written(tmp_path / "clean.csv", ladder(SMALL, noise=0.003, seed=4))
    told = " ".join(command("scaling", "fit", clean)[0].split())
    assert "off it (standard deviation)." in told
    assert "Far off" not in told


def test_a_run_that_decides_the_variant_is_named(command, tmp_path):
    """With the variant that is believed without it."""
    points = ladder(SMALL, noise=0.003, seed=5)
    points[15] = replace(points[15], loss=points[15].loss * 0.95, name="odd")
    file = written(tmp_path / "runs.csv", points)
    told = " ".join(command("scaling", "fit", file)[0].split())
    first = json.loads(command("scaling", "fit", file, "--json")[0])["influences"][0]
    assert f"odd: loss {first['loss']:+.2%}" in told
    assert f"; {first['variant']} is believed then" in told


def test_budgets_that_are_not_four_apart(command, tmp_path):
    """Are named by their own factors, in the table and for machines."""
    file = written(tmp_path / "runs.csv", ladder(noise=0.003, seed=1, apart=10))
    told = command("scaling", "fit", file)[0]
    assert "best: 10× budgets to" in " ".join(told.split())
    (heads,) = (line for line in told.splitlines() if line.startswith("variant and"))
    assert heads.split()[-3:] == ["runs", "fit", "10×"]
    for variant in json.loads(command("scaling", "fit", file, "--json")[0])["variants"]:
        assert variant["leaps"]["far"]["factor"] == pytest.approx(10)
        assert "near" not in variant["leaps"]


def test_variants_that_could_not_be_tested(command, tmp_path):
    """Are said to be so, and not to be worse; and so is what a parabola cannot tell."""
    points = ladder(noise=0.003, seed=1, sizes=7)
    points = [replace(p, steps=100 if i < 14 else 1000) for i, p in enumerate(points)]
    file = written(tmp_path / "runs.csv", points[:3] + points[7:])
    told = command("scaling", "fit", file)[0]
    few = [line for line in told.splitlines() if "200 steps" in line]
    assert few
    assert all("not tested" in line and "–" in line for line in few)
    assert "clearly worse" in told
    first = next(line for line in told.splitlines() if line.startswith("10T "))
    assert "not to be told" in first
    assert first.endswith("–")
    assert "–: a parabola through the law's own losses" in told
    assert "nan" not in told


def test_figures_of_any_size():
    """Parameters and tokens are whole numbers, at least one; no letter has four digits before it."""
    assert counted(Span(0.03, 1e-9, 512.4)) == "1 [1, 512]"
    assert counted(Span(999_999.0, 2.0, 1e30)) == "1M [2, 1e30]"
    assert spanned(Span(1.5, 0.2, 3e40)) == "1.5 [0.2, 3e40]"
    assert [short(x) for x in (0.0, 999.9, 999.6e6, 1e15)] == ["0", "1k", "1B", "1e15"]


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
