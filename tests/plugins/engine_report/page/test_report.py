"""`engine report` writes a page about any run, however far it came and whatever its log has."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support.made_runs import begun, made_run, score, step

CARD = {
    "sources": [
        {
            "source": "web", "read": 1000, "dropped": {"duplicate": 40, "short": 2}, "bad_rows": [],
            "held_out": 8, "documents": 950, "bytes": 5_100_000, "tokens": 1_200_000,
            "licenses": {"CC-BY-4.0": 900, "MIT": 50},
        },
    ],
    "mixture": [{"source": "web", "weight": 1.0, "epochs": 1.5}],
    "holdout": {"documents": 8, "bytes": 4000},
}  # fmt: skip


class _Words(HTMLParser):
    """The words of a page outside of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._hidden = False

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self._hidden = tag in ("script", "style")

    def handle_endtag(self, tag: str) -> None:
        self._hidden = False

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words += data.split()


@pytest.fixture
def report(command, tmp_path) -> Callable[..., str]:
    """The text of the page of these runs, as a reader sees it."""

    def read(*runs: Path) -> str:
        command("report", *runs, "--to", tmp_path / "page.html")
        parser = _Words()
        parser.feed((tmp_path / "page.html").read_text(encoding="utf-8"))
        return " ".join(parser.words)

    return read


def test_a_real_run(finished_run, report, command, tmp_path):
    """Its stages, scores, data, spec and versions are on a page in its folder; --json has figures."""
    run = shutil.copytree(finished_run, tmp_path / "tiny")
    out, _ = command("report", run)
    assert re.search(r"tiny, 6 steps, 9\d\d kB", " ".join(out.split()))
    assert (run / "report.html").stat().st_size < 1_100_000
    text = report(run)
    for told in (
        "corpus done, base done",
        "perplexity",
        "60",
        "weight_decay: 0.1",
        "torch",
        "held out",
    ):
        assert told in text
    (figures,) = json.loads(command("report", run, "--json")[0])
    base = figures["stages"]["base"]
    assert base["curves"]["step"] == [1, 2, 3, 4, 5, 6]
    assert base["planned"]["steps"] == base["reached"]["steps"] == 6
    log = map(json.loads, (run / "events.jsonl").read_text().splitlines())
    losses = [event["loss"] for event in log if event["event"] == "step"]
    assert base["curves"]["figures"]["loss"]["value"] == losses  # to the last digit
    assert {one["metric"] for one in figures["scores"]} >= {"perplexity", "bits_per_byte"}
    assert figures["status"] == "done"


def test_what_happened_to_documents(tmp_path, report):
    """From the card: what was kept, with its licences, why others were dropped, which benchmarks."""
    found = {"benchmark": "arc", "items": 2376, "digest": "x", "touched": {"a": "b", "c": "d"}}
    done = {"event": "stage_finished", "stage": "corpus", "verb": "prepare", "benchmarks": [found]}
    warned = {"event": "warning", "stage": "corpus", "message": "dedup: nothing to do"}
    run = made_run(tmp_path / "run", [begun("corpus", "prepare"), warned, done])
    (run / "corpus").mkdir()
    (run / "corpus" / "card.json").write_text(json.dumps(CARD))
    text = report(run)
    for told in (
        "web 1,000 42 8 950 1,200,000 5.1 MB CC-BY-4.0, MIT", "8 documents, 4 kB, are held out",
        "web 1 1.50", "duplicate 40", "short 2", "arc 2,376 2", "dedup: nothing to do",
    ):  # fmt: skip
        assert told in text


def test_what_went_wrong(tmp_path, report):
    """Skipped steps, roll-backs, an early end, warnings and damaged lines are told."""
    events = [
        begun(), step(1), step(2, 90.0, skipped=True), step(3, None, skipped=True),
        {"event": "rolled_back", "stage": "base", "step": 1, "reason": "2 spikes", "excluded": []},
        step(2, 1.5), step(3, 90.0, skipped=True),
        {"event": "warning", "stage": "base", "message": "slow disk"},
        {"event": "resumed", "stage": "base", "step": 3},
        {"event": "ended_early", "stage": "base", "step": 4, "reason": "enough"},
    ]  # fmt: skip
    run = made_run(tmp_path / "run", events)
    with (run / "events.jsonl").open("a") as log:
        log.write('{"event": "step", "stage"\n[]\n{"event": "step", "stage": "base", "step": 5')
    text = report(run)
    for told in (
        "1 step was skipped: 3", "rolled back to step 1: 2 spikes", "slow disk", "resumed once",
        "2 lines of the log are damaged", "ended early at step 4: enough", "not finished",
    ):  # fmt: skip
        assert told in text


def test_a_run_that_diverged(tmp_path, report, command):
    """Looks as it is: in the overview, in its stage and in its scores; several runs are told apart."""
    lost = {"grad_norm": None}
    events = [
        begun(), step(1, 3.0, grad_norm=1.0), step(2, None, **lost), score(0.5, 1),
        step(3, None, **lost), score(None, 3),
        {"event": "stage_finished", "stage": "base", "verb": "train"},
    ]  # fmt: skip
    run = made_run(tmp_path / "run", events)
    text = report(run)
    for told in (
        "run done, loss not finite 2023-11-14 22:13 UTC 6 s",
        "base done (loss not finite since step 2)",
        "base: the score quiz: acc is not finite at step 3",
        "Training base Loss is not finite since step 2, the dotted line in its chart. "
        "Gradient norm is not finite since step 2",
        "loss not finite since step 2", "quiz: acc not finite 40",
    ):  # fmt: skip
        assert told in text
    (figures,) = json.loads(command("report", run, "--json")[0])
    assert figures["stages"]["base"]["not_finite"] == {"loss": 2, "grad_norm": 2}
    assert figures["scores"][-1]["value"] is None
    well = made_run(tmp_path / "well", [begun(), step(1)])
    assert "run: Loss is not finite since step 2" in report(run, well)
    assert "Loss is not finite" not in report(well)


def test_a_training_that_ended_early(tmp_path, report):
    """Is called so beside its status and in its stage, with the reason."""
    end = {"event": "ended_early", "stage": "base", "step": 2, "reason": "no progress"}
    done = {"event": "stage_finished", "stage": "base", "verb": "train"}
    text = report(made_run(tmp_path / "run", [begun(), step(1), step(2), end, done]))
    assert "base done (ended early)" in text
    assert "Training base Ended early at step 2: no progress" in text


def test_samples_stand_by_prompt_and_step(tmp_path, report):
    """So that one sees how the model learns."""
    told = {"event": "sample", "stage": "base", "model": "base", "evaluator": "samples"}
    events = [begun()]
    for at in (1000, 2000):
        events.append({**told, "step": at, "prompt": "Once", "text": f"upon {at}"})
        events.append({**told, "step": at, "prompt": "Twice", "text": f"a {at}"})
    text = report(made_run(tmp_path / "run", events))
    assert "Once step 1,000 upon 1000 step 2,000 upon 2000" in text
    assert "Twice step 1,000 a 1000 step 2,000 a 2000" in text


def test_of_several_runs_the_differences_come_first(tmp_path, report):
    """Then their curves and scores together; runs with the same name are told by their paths."""
    runs = [
        made_run(tmp_path / name / "run", [begun(), step(1), score(n / 4, 1)], spec={"seed": n})
        for n, name in enumerate(("a", "b"))
    ]
    text = report(*runs)
    labels = " ".join(map(str, runs))
    assert f"Differences of the specs Fields that differ field {labels} seed 0 1" in text
    assert text.index("Differences of the specs") < text.index("Training base")
    assert "quiz: acc 0.00 ± 0.20 0.25 ± 0.20 40" in text
    same = [shutil.copytree(runs[0], tmp_path / name) for name in ("c", "d")]
    assert "The specs are the same, except for their names." in report(*same)


@pytest.mark.parametrize(
    "events",
    [
        [],
        [begun()],
        [begun("scores", "evaluate"), score(0.5, None, "scores")],
        [begun(), step(1, None, tokens_per_second=None)],
        [{"event": "step", "stage": "base", "step": 3}],
        [{"event": "documents", "stage": "corpus", "source": None, "dropped": 3, "licenses": 4}],
        [{"event": "rolled_back", "stage": "base"}, {"event": "sample", "stage": "base"}],
        [begun(verb={"a": 1}), {"event": "failed", "error": "no disk"}],
        [{**begun(), "time": 1e300}, {**step(1), "time": "now"}],
    ],
)
def test_a_run_of_which_little_is_known(tmp_path, report, events):
    """Has a page all the same: it began only, was evaluated only, or its log is damaged."""
    assert report(made_run(tmp_path / "run", events)).startswith("run – report")


@pytest.mark.parametrize("file", ["card.json", "manifest.json", "resolved.yaml"])
@pytest.mark.parametrize("content", ["", "[1]", '{"sources": [3], "given": 4, "stages": 5}', "{a"])
def test_damaged_files_beside_the_log(tmp_path, report, file, content):
    """Are left out."""
    run = made_run(tmp_path / "run", [begun("corpus", "prepare"), begun(), step(1)])
    (run / "corpus").mkdir()
    (run / ("corpus" if file == "card.json" else "") / file).write_text(content)
    assert "Training base" in report(run)


def test_the_plugins_of_a_run_are_not_needed(tmp_path, report):
    """Its spec is shown as it stands."""
    spec = {"plugins": ["gone"], "stages": {"base": {"train": {"model": {"type": "gone-model"}}}}}
    assert "type: gone-model" in report(made_run(tmp_path / "run", [begun(), step(1)], spec=spec))


def test_what_is_not_a_run_is_refused(tmp_path, command):
    """The folder is named; nothing is written."""
    _, error = command("report", tmp_path, status=2)
    assert "is not a run's folder" in error
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["events.jsonl", "resolved.yaml", "notes.html", "base"])
def test_what_is_no_earlier_page_is_not_replaced(tmp_path, command, name):
    """A run's log, another file, a folder: they stay as they are."""
    run = made_run(tmp_path / "run", [begun(), step(1)], spec={"name": "run"})
    (run / "base").mkdir()
    (run / "notes.html").write_text("<!doctype html>\n<title>mine</title>")
    before = {file: file.read_bytes() for file in run.iterdir() if file.is_file()}
    command("report", run, "--to", run / name, status=2)
    assert {file: file.read_bytes() for file in run.iterdir() if file.is_file()} == before


def test_new_files_within_a_run(tmp_path, command):
    """Are pages alone, which a later report replaces."""
    run = made_run(tmp_path / "run", [begun(), step(1)])
    _, error = command("report", run, "--to", run / "base" / "stage.json", status=2)
    assert "is no .html file" in error
    for _ in range(2):
        command("report", run, "--to", run / "mine.html")
    assert (run / "mine.html").is_file()
    assert not (run / "base").exists()


def test_a_run_that_is_given_twice(tmp_path, command):
    """Is taken once, which is told; its page is that of one run."""
    run = made_run(tmp_path / "run", [begun(), step(1)])
    out, error = command("report", run, tmp_path / "other" / ".." / "run", "--json")
    assert [one["label"] for one in json.loads(out)] == ["run"]
    assert "is given more than once, and taken once" in error


def test_a_page_that_cannot_be_written(tmp_path, command):
    """Ends with one line, which names the file."""
    run = made_run(tmp_path / "run", [begun(), step(1)])
    (tmp_path / "file").touch()
    _, error = command("report", run, "--to", tmp_path / "file" / "page.html", status=1)
    assert "page.html: cannot be written" in error


def test_a_page_needs_the_extra(tmp_path, command, monkeypatch):
    """Without it one is told what to install; --json needs nothing."""
    run = made_run(tmp_path / "run", [begun(), step(1)])
    monkeypatch.delitem(sys.modules, "engine_report.page.page", raising=False)
    monkeypatch.setitem(sys.modules, "jinja2", None)
    _, error = command("report", run, status=1)
    assert "a page needs jinja2; pip install 'training-engine[report]'" in error
    assert json.loads(command("report", run, "--json")[0])


@pytest.mark.parametrize("count", [20_000, pytest.param(1_000_000, marks=pytest.mark.soak)])
def test_many_steps_are_a_small_page(tmp_path, command, count):
    """Far under 5 MB, with the greatest value of each figure still in it."""
    spike = count * 2 // 3
    line = (
        '{{"time": 1.0, "stage": "base", "step": {0}, "tokens": {0}, "loss": {1}, "lr": 1e-3, '
        '"grad_norm": 0.5{0}, "skipped": false, "tokens_per_second": 5{0}, "event": "step"}}\n'
    )
    run = made_run(tmp_path / "run", [])
    with (run / "events.jsonl").open("w") as log:
        log.writelines(line.format(n, 99.5 if n == spike else 2.5) for n in range(1, count + 1))
    command("report", run)
    assert (run / "report.html").stat().st_size < 1_500_000
    figures = re.search(r'id="figures"[^>]*>(.*?)</script>', (run / "report.html").read_text())
    assert figures
    ((only,), charts) = (json.loads(figures[1])[name] for name in ("runs", "charts"))
    loss = only["stages"]["base"]["curves"]["figures"]["loss"]
    assert max(loss["high"]) == 99.5
    assert len(loss["value"]) <= 400
    assert len(charts) == 5
