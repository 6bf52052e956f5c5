"""Rounds of answers as a person follows them: while they are made, and afterwards."""

from __future__ import annotations

import json
import shutil
from contextlib import closing

import pytest
import yaml
from support.internals import EventLog, Process, Run, RunFolder, SilentDisplay, main

from engine import load_spec

COLUMNS = ["prompt", "answer", "ended", "reward/words", "cost/brevity", "kl"]


class Bars(SilentDisplay):
    """Keeps how far what was."""

    def __init__(self):
        self.shown = []

    def progress(self, what, done, total, note=""):
        self.shown.append((what, done / total, note))


@pytest.fixture(scope="module")
def bars():
    return Bars()


@pytest.fixture(scope="module")
def run(finished_run, animals, bars, tmp_path_factory):
    """The folder of the tiny run with a stage more, whose two rounds have eight answers each."""
    folder = tmp_path_factory.mktemp("rollouts") / "tiny"
    shutil.copytree(finished_run, folder)
    prompts = folder.parent / "prompts.jsonl"
    prompts.write_text("".join(json.dumps({"prompt": r["prompt"]}) + "\n" for r in animals))
    spec = yaml.safe_load((folder / "spec.yaml").read_text(encoding="utf-8"))
    spec["stages"]["aligned"] = {
        "train": {
            "data": {"type": "files", "paths": [str(prompts)], "records": "prompt"},
            "model": "base",
            "objective": {
                "type": "ppo",
                "rewards": [{"type": "length", "name": "words"}],
                "constraints": [{"reward": {"type": "length", "name": "brevity", "scale": 2}}],
                "answer_tokens": 8,
                "passes": 1,
            },
            "optimizer": {"type": "adamw", "lr": 1e-3},
            "precision": "fp32",
            "batch": {"examples": 8},
            "budget": "2 steps",
        }
    }
    file = folder.parent / "spec.yaml"
    file.write_text(yaml.safe_dump(spec, sort_keys=False), encoding="utf-8")
    with closing(EventLog(folder / "events.jsonl", bars)) as log:
        assert Run(load_spec(file), RunFolder(folder), Process(), log).execute() == "done"
    return folder


@pytest.fixture
def rollouts(run, capsys, monkeypatch):
    """What ``engine rlhf rollouts`` prints on a terminal of 80 columns."""
    monkeypatch.setenv("COLUMNS", "80")

    def show(*arguments, status=0, stage=None):
        with pytest.raises(SystemExit) as ended:
            main(["rlhf", "rollouts", str(stage or run / "aligned"), *arguments])
        assert ended.value.code == status
        printed = capsys.readouterr()
        assert all(
            len(line) <= 80 for line in printed.out.splitlines() if "--json" not in arguments
        )
        return printed.err if status else printed.out

    return show


def _rows(run, number):
    file = run / "aligned" / "rollouts" / f"round-{number:06d}.jsonl"
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


@pytest.mark.usefixtures("run")
def test_a_round_shows_how_far_it_is(bars):
    """By a bar of its own, which says what model is asked, and goes when the round is there."""
    for number in (1, 2):
        told = [(share, note) for what, share, note in bars.shown if what == f"round {number}"]
        assert told[-1] == (1.0, "")
        assert {note for _, note in told[:-1]} == {"model", "reference", "value", "value-brevity"}
        for note in ("model", "reference", "value"):
            assert all(0 < share < 1 for share, n in told if n == note)
            assert max(share for share, n in told if n == note) == pytest.approx(1, abs=0.01)
    first = [share for what, share, note in bars.shown if (what, note) == ("round 1", "model")]
    written = first[: first.index(max(first)) + 1]
    assert written == sorted(written)


def test_the_last_round_is_shown(run, rollouts):
    """Every answer with its figures, and the round's means."""
    told = rollouts()
    assert told.startswith("round 2 of 2: 8 of 8 answers\n")
    assert told.count("cost/brevity") == 9
    rows = _rows(run, 2)
    assert list(rows[0]) == COLUMNS
    for row in rows:
        assert row["prompt"] in told
        assert f"{row['kl']:.4g}" in told
    assert f"{sum(row['kl'] for row in rows) / 8:.4g}" in told


def test_rows_are_chosen(run, rollouts):
    """By round, column and number; as JSON they are those of the file."""
    for number in (1, 2):
        told = rollouts("--round", str(number), "--json")
        assert [json.loads(line) for line in told.splitlines()] == _rows(run, number)
    by_kl = sorted((row["kl"] for row in _rows(run, 2)), reverse=True)
    told = [json.loads(line) for line in rollouts("--sort", "kl", "--json").splitlines()]
    assert [row["kl"] for row in told] == by_kl
    told = rollouts("--sort", "-kl", "--limit", "2", "--json").splitlines()
    assert [json.loads(line)["kl"] for line in told] == by_kl[:-3:-1]
    assert rollouts("--sort", "-kl", "--limit", "3").startswith(
        "round 2 of 2: 3 of 8 answers, by kl\n"
    )


def test_a_long_round_is_not_shown_whole(run, rollouts):
    """Ten answers where nobody says how many; machines get all."""
    file = run / "aligned" / "rollouts" / "round-000003.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in _rows(run, 2) * 3))
    assert rollouts().startswith("round 3 of 3: 10 of 24 answers\n")
    assert len(rollouts("--json").splitlines()) == 24
    file.unlink()


def test_what_a_model_wrote_is_shown_and_not_obeyed(run, rollouts, tmp_path):
    """Markup is text, lines stay lines, and control characters are written out."""
    answer = "[red]one[/] [/]\n  two\x1b[31m\x07\r three\u202e" + "long " * 40
    row = {**_rows(run, 2)[0], "answer": answer, "a-reward-with-a-rather-long-name-of-its-own": 1.5}
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "round-000001.jsonl").write_text(json.dumps(row) + "\n")
    told = rollouts(stage=tmp_path)
    assert "[red]one[/] [/]" in told
    assert "  two\\x1b[31m\\x07\\r three\\u202elong" in told
    assert not {"\x1b", "\x07", "\r", "\u202e"} & set(told)


def test_prompts_are_shown_by_the_command_for_rows(run, animals, capsys):
    """As they are before they are answered: nothing of them counts."""
    with pytest.raises(SystemExit) as ended:
        main(["data", str(run / "aligned"), "--samples", "2", "--json"])
    assert ended.value.code == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert {row["text"] for row in rows} <= {row["prompt"] for row in animals}
    assert not any(any(row["counted"]) for row in rows)


def test_what_is_not_there_is_said(run, rollouts, tmp_path):
    """With what is, and status 2."""
    assert "no stage of a run; name one as in" in rollouts(stage=run / "alined", status=2)
    told = rollouts(stage=run / "base", status=2)
    assert "no rollouts in it; stages with an online objective" in told
    assert "beside it that have some: aligned" in told
    assert "no round 7; it has 1 to 2" in rollouts("--round", "7", status=2)
    told = rollouts("--sort", "reward", status=2)
    assert f"--sort reward: no such column; columns: {', '.join(COLUMNS)}" in told


ROW = '{"answer": "a", "kl": 0.5}\n'
DAMAGED = {
    "half a row": "{",
    "no row": "",
    "no object": "[1]\n",
    "a figure that is a list": '{"answer": "a", "kl": [1]}\n',
    "a figure that is none": '{"answer": "a", "kl": null}\n',
    "a figure of 400 digits": f'{{"answer": "a", "kl": 1{"0" * 400}}}\n',
    "a figure that is a text in another row": ROW + '{"answer": "a", "kl": "b"}\n',
    "another row's columns": ROW + '{"answer": "a"}\n',
    "lists in lists": "[" * 100_000,
}


@pytest.mark.parametrize("sort", [(), ("--sort", "kl")])
@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_round_is_said_to_be_one(rollouts, tmp_path, damage, sort):
    """Whatever is wrong with it, and whatever is done with its rows."""
    (tmp_path / "rollouts").mkdir()
    (tmp_path / "rollouts" / "round-000001.jsonl").write_text(DAMAGED[damage], encoding="utf-8")
    assert "round-000001.jsonl: is damaged" in rollouts(*sort, stage=tmp_path, status=1)
