"""Checkpoints and runs compared by their scores."""

from __future__ import annotations

import json
import shutil
import struct
import zlib
from xml.etree import ElementTree

import pytest
from support.internals import main

from engine import cleaned


def _score(step, value, evaluator="hellaswag", metric="acc", **fields):
    return {
        "event": "score",
        "stage": "base",
        "model": "base",
        "step": step,
        "evaluator": evaluator,
        "metric": metric,
        "value": value,
        "stderr": 0.01,
        "n": 100,
        "higher_is_better": True,
    } | fields


@pytest.fixture
def runs(finished_run, tmp_path):
    """A folder with two copies of a finished run, ``a`` and ``b``."""
    for name in "ab":
        shutil.copytree(finished_run, tmp_path / "runs" / name)
    return tmp_path / "runs"


@pytest.fixture
def add(runs):
    """Adds events, or any text, to a run's log."""

    def add(run, *events):
        with (runs / run / "events.jsonl").open("a", encoding="utf-8") as log:
            for event in events:
                log.write(event if isinstance(event, str) else json.dumps(event) + "\n")

    return add


@pytest.fixture
def board(runs, capsys, monkeypatch):
    """Runs ``engine evals leaderboard`` on the folder: what it printed."""
    monkeypatch.setenv("COLUMNS", "80")

    def run(*arguments, status=0, folder=runs):
        with pytest.raises(SystemExit) as ended:
            main(["evals", "leaderboard", str(folder), *map(str, arguments)])
        told = capsys.readouterr()
        assert ended.value.code == status, told
        return told.err if status else told.out

    return run


def _rows(out):
    return [line.split() for line in out.splitlines()]


def test_real_runs(board):
    """Both, with their parameters, steps and the scores of their evaluator."""
    rows = json.loads(board("--json"))
    assert [(r["run"], r["model"], r["step"]) for r in rows] == [("a", "base", 6), ("b", "base", 6)]
    assert rows[0]["parameters"] == 43_168
    names = [(s["evaluator"], s["metric"]) for s in rows[0]["scores"]]
    assert names == [("perplexity", "perplexity"), ("perplexity", "bits_per_byte")]
    lines = _rows(board())
    assert lines[1][:3] == ["model", "step", "parameters"]
    assert lines[2][:3] == ["a/base", "6", "43.2k"]
    value, sign, half = lines[2][3:6]
    assert (float(value), sign, float(half)) == (
        pytest.approx(rows[0]["scores"][0]["value"], rel=0.01),
        "±",
        pytest.approx(1.96 * rows[0]["scores"][0]["stderr"], rel=0.05),
    )
    assert "± half of a 95 % interval" in board()


def test_the_best_comes_first(board, add):
    """By a metric's own direction; without the score last, whatever has none."""
    add("a", _score(2, 0.3), _score(6, 0.5))
    add("b", _score(2, 0.4), _score(4, None), _score(6, 0.1, higher_is_better=True))
    order = [line[:2] for line in _rows(board("--metric", "acc"))[2:]]
    assert order[:4] == [["a/base", "6"], ["b/base", "2"], ["a/base", "2"], ["b/base", "6"]]
    assert order[4] == ["b/base", "4"]
    add("a", _score(6, 90.0, metric="loss", higher_is_better=False))
    add("b", _score(6, 80.0, metric="loss", higher_is_better=False))
    order = [line[0] for line in _rows(board("--metric", "hellaswag/loss"))[2:4]]
    assert order == ["b/base", "a/base"]


def test_an_interval_goes_before_the_standard_error(board, add):
    """In the table; JSON has both."""
    add("a", _score(6, 0.1, "robustness", "acc_drop/case", interval=[0.02, 0.183]))
    assert "0.100 [0.020, 0.183]" in board("--metric", "acc_drop/case")
    (row,) = (row for row in json.loads(board("--json")) if row["run"] == "a")
    assert row["scores"][-1]["interval"] == [0.02, 0.183]
    assert row["scores"][-1]["stderr"] == 0.01


def test_the_latest_score_counts(board, add):
    """Of the same checkpoint; an evaluate stage's is of the step that training had come to."""
    add("a", _score(6, 0.3), _score(None, 0.4, stage="scores"), {"event": "stage_finished"})
    (row,) = (row for row in json.loads(board("--json")) if row["run"] == "a")
    assert row["step"] == 6
    assert [s["value"] for s in row["scores"] if s["metric"] == "acc"] == [0.4]


def test_a_stage_that_began_anew(board, add):
    """Leaves its old scores behind; one that went on keeps them."""
    training = {"event": "training", "stage": "base", "parameters": 1_500_000}
    step = {"event": "step", "stage": "base", "step": 2}
    add("a", training, step, _score(2, 0.3))
    add("b", training, {"event": "resumed", "stage": "base", "step": 6}, step, _score(8, 0.3))
    rows = json.loads(board("--json", "--metric", "acc"))
    assert {(r["run"], r["step"], r["parameters"]) for r in rows} == {
        ("a", 2, 1_500_000),
        ("b", 6, 43_168),
        ("b", 8, 1_500_000),
    }


def test_many_scores_fit_80_columns(board, add):
    """The columns that do not fit follow below, for the same rows."""
    add("a", *(_score(6, 0.25, name) for name in ("mmlu", "piqa", "boolq", "winogrande", "gsm8k")))
    out = board("--metric", "piqa/acc")
    assert max(map(len, out.splitlines())) <= 80
    assert _rows(out)[0][0] == "piqa"
    assert out.count("a/base") == out.count("b/base") > 1
    assert all(name in out for name in ("mmlu", "boolq", "winogrande", "gsm8k", "bits per byte"))


def test_damaged_lines(board, add, runs):
    """Are left out and counted; an empty log is a run without scores."""
    add("a", "\n", "[1]\n", _score("six", 0.1), {"event": "score"}, '{"event": "sco')
    with (runs / "a" / "events.jsonl").open("ab") as log:
        log.write(b"\xff\n")
    (runs / "empty").mkdir()
    (runs / "empty" / "events.jsonl").touch()
    out = board()
    assert "left out: 4 damaged lines" in out
    assert "a/base" in out
    assert "b/base" in out
    assert "empty" not in out


def test_a_folder_without_scores(board, tmp_path):
    """Is an error that names it."""
    err = board(folder=tmp_path / "none", status=1)
    assert err.startswith(f"error: {tmp_path / 'none'}: no run in it has scores")


def test_a_metric_that_is_not_one(board, add):
    """Says which there are."""
    assert "no model has it; name one of: perplexity/perplexity" in board(
        "--metric", "bleu", status=2
    )
    add("a", _score(6, 0.1), _score(6, 0.1, "mmlu"))
    err = board("--metric", "acc", status=2)
    assert "is of several evaluators; name one of: hellaswag/acc, mmlu/acc" in err


def _pixels(png):
    """Width, height and the picture's bytes of a PNG that is whole."""
    assert png.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", png[16:24])
    data, at = b"", 8
    while at < len(png):
        (length,) = struct.unpack(">I", png[at : at + 4])
        kind, body = png[at + 4 : at + 8], png[at + 8 : at + 8 + length]
        assert (
            zlib.crc32(kind + body)
            == struct.unpack(">I", png[at + 8 + length : at + 12 + length])[0]
        )
        data += body if kind == b"IDAT" else b""
        at += 12 + length
    return width, height, zlib.decompress(data)


def test_a_plot_over_steps(board, add, tmp_path):
    """A line for each run, with error bars, on axes that say what they are."""
    add("a", _score(2, 0.3), _score(4, 0.4), _score(6, 0.5))
    add("b", _score(2, 0.35), _score(6, None))
    file = tmp_path / "scores.svg"
    out = board("--metric", "acc", "--plot", file)
    assert f"drawn: {file}" in out
    drawn = ElementTree.parse(file)
    ids = [element.get("id", "") for element in drawn.iter()]
    assert sum(name.startswith("LineCollection") for name in ids) >= 2  # the error bars
    said = "".join(file.read_text(encoding="utf-8").split("<!--"))
    assert all(word in said for word in ("a/base", "b/base", "training step", "hellaswag: acc"))
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize("name", ["$\\frac{", "$$", "\ud800", "a\x1b[2J"])
def test_names_in_a_plot_are_text(board, add, tmp_path, name):
    """No formulas, and nothing that fonts cannot have."""
    add("a", {**_score(2, 0.3), "evaluator": name, "model": name, "stage": name})
    file = tmp_path / "scores.svg"
    board("--metric", "acc", "--plot", file)
    drawn = file.read_text(encoding="utf-8")
    shown = cleaned(name)
    assert f"a/{shown}" in drawn
    assert f"{shown}: acc" in drawn


@pytest.mark.parametrize(
    "fields",
    [{"step": 10**400}, {"step": -1}, {"stderr": -0.1}, {"step": "10" * 500}],
)
def test_figures_that_cannot_be_are_damage(board, add, tmp_path, fields):
    """A plot of the others is drawn."""
    add("a", _score(2, 0.3), {**_score(4, 0.4), **fields})
    assert "left out: 1 damaged lines" in board("--metric", "acc", "--plot", tmp_path / "a.png")


def test_a_plot_over_sizes(board, add, tmp_path):
    """As PNG, with each model's last score at its size."""
    add("a", {"event": "training", "stage": "base", "parameters": 10**9})
    add("a", {"event": "step", "stage": "base", "step": 9}, _score(9, 0.7))
    add("b", _score(6, 0.3))
    file = tmp_path / "sizes.png"
    board("--metric", "acc", "--by", "parameters", "--plot", file)
    width, height, pixels = _pixels(file.read_bytes())
    assert (width, height) == (1200, 750)
    assert len(set(pixels)) > 10


def test_the_points_of_a_plot(runs, add):
    """Are the scores at their steps with half of their 95 % intervals; over sizes, the last of each
    model."""
    from engine_evals.leaderboard import plot
    from engine_evals.leaderboard.entries import read_entries

    add("a", _score(2, 0.3), _score(6, 0.5))
    add("b", _score(2, 0.4), _score(6, None))
    entries, _ = read_entries(runs)
    column, half = ("hellaswag", "acc"), pytest.approx(1.96 * 0.01)
    assert plot._over_steps(entries, column) == {
        "a/base": [(2, 0.3, half), (6, 0.5, half)],
        "b/base": [(2, 0.4, half)],
    }
    assert plot._over_sizes(entries, column) == {
        "a/base": [(43_168, 0.5, half)],
        "b/base": [(43_168, 0.4, half)],
    }


@pytest.mark.parametrize(
    ("name", "status", "told"),
    [
        ("scores.pdf", 2, "cannot draw '.pdf'; name a .png or .svg"),
        ("none/scores.png", 1, "cannot be written: No such file or directory"),
    ],
)
def test_a_plot_that_cannot_be_drawn(board, tmp_path, name, status, told):
    """Says why."""
    assert told in board("--plot", tmp_path / name, status=status)


def test_a_score_without_a_step(board, add, tmp_path):
    """Of a model from elsewhere stands in the table, and in no plot over steps."""
    add("a", _score(None, 0.9, model="gpt2", stage="scores"))
    assert _rows(board("--metric", "acc"))[2][:2] == ["a/gpt2", "0.900"]
    err = board("--metric", "acc", "--plot", tmp_path / "x.png", status=1)
    assert "hellaswag/acc: no score at a known step" in err
