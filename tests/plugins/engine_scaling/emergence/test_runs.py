"""Scores of runs: which FLOPs they belong to, which are left out, and which are refused."""

from __future__ import annotations

import json
import shutil

import pytest
import yaml

LOG = "events.jsonl"


def score(value, step, metric="acc", stage="base", **fields):
    return {
        "event": "score", "stage": stage, "model": "base", "step": step, "evaluator": "hellaswag",
        "metric": metric, "value": value, "stderr": 0.01, "n": 1000, "higher_is_better": True,
        "fingerprint": "f",
    } | fields  # fmt: skip


def beside(value, step, logprob, **fields):
    """A score with what a multiple-choice evaluator logs beside it."""
    return [
        score(value, step, **fields),
        score(logprob, step, "gold_logprob", **fields),
        score(0.25, step, "chance", **fields),
    ]


def trained(flops, scores, *, stage="base", tokens=100, done=True, steps=4):
    return [
        {"event": "stage_started", "stage": stage, "verb": "train"},
        {"event": "training", "stage": stage, "parameters": 1000, "flops": flops},
        *({"event": "step", "stage": stage, "step": n, "tokens": n * tokens, "loss": 1.0}
          for n in range(1, steps + 1)),
        *scores,
        *([{"event": "stage_finished", "stage": stage}] if done else []),
    ]  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    """Writes a run's log and its resolved spec; returns the folder of all runs."""

    def write(name, events, budget="400 tokens", **stages):
        folder = tmp_path / "runs" / name
        folder.mkdir(parents=True)
        log = "".join(e if isinstance(e, str) else json.dumps(e) + "\n" for e in events)
        (folder / LOG).write_text(log, encoding="utf-8")
        base = {"train": {"budget": budget, "model": {"type": "llama"}}}
        spec = {"name": name, "stages": {"base": base, **stages}}
        (folder / "resolved.yaml").write_text(yaml.safe_dump(spec), encoding="utf-8")
        return folder.parent

    return write


def ladder(runs, count=6, **fields):
    """Runs of growing FLOPs, each with a score at its end."""
    for number in range(count):
        value = min(0.25 + 0.1 * max(0, number - 1), 0.65)
        events = trained(10.0 ** (17 + number), beside(value, 4, -2 + 0.2 * number, **fields))
        folder = runs(f"run{number}", events)
    return folder


def by_name(said):
    return {point["name"]: point for point in said["points"]}


def test_scores_of_a_folder_of_runs(tell, runs):
    """With FLOPs of each, the chance and the log-probability that were logged beside them."""
    said = tell(ladder(runs))
    assert said["metric"] == "hellaswag/acc"
    assert said["chance"] == 0.25
    points = by_name(said)
    assert [p["flops"] for p in points.values()] == pytest.approx([10.0**x for x in range(17, 23)])
    assert points["run5/base"]["logprob"] == pytest.approx(-1)
    assert said["log_probability"]["exponent"] > 0


def test_a_checkpoint_s_flops_are_its_share_of_tokens(tell, runs):
    """Those of the stages that it started from come first; a budget in steps counts tokens too."""
    one = trained(4e18, [e for n in (1, 2, 3, 4) for e in beside(0.3, n, -1.0)])
    tuned = trained(8e17, beside(0.5, None, -0.5, stage="scores", model="named"), stage="sft")
    tuned[-1:-1] = beside(0.4, 2, -0.7, stage="sft", model="sft")
    train = {"budget": "8 steps", "model": {"type": "stage", "stage": "base"}}
    folder = runs(
        "a", one + tuned,
        sft={"train": train},
        scores={"evaluate": {"models": [{"type": "stage", "stage": "sft", "name": "named"}]}},
    )  # fmt: skip
    points = by_name(tell(folder))
    assert {name: p["flops"] for name, p in points.items()} == {
        "a/base@1": pytest.approx(1e18),
        "a/base@2": pytest.approx(2e18),
        "a/base@3": pytest.approx(3e18),
        "a/base": pytest.approx(4e18),
        "a/sft@2": pytest.approx(4e18 + 2e17),
        "a/sft": pytest.approx(4e18 + 4e17),
    }
    assert points["a/sft"]["score"] == 0.5
    assert by_name(tell(folder, "--model", "base")).keys() == {
        "a/base@1", "a/base@2", "a/base@3", "a/base",
    }  # fmt: skip


def test_a_budget_in_epochs_is_what_was_trained_on(tell, runs):
    """All of its tokens together have the FLOPs that were counted."""
    events = trained(4e18, [e for n in (1, 2, 3, 4) for e in beside(0.3, n, -1.0)])
    flops = [p["flops"] for p in tell(runs("a", events, "2 epochs"))["points"]]
    assert flops == pytest.approx([1e18, 2e18, 3e18, 4e18])


def test_what_has_no_flops_is_left_out(tell, runs):
    """Named with the reason: unfinished, diverged, of a budget in time, or from elsewhere."""
    ladder(runs)
    runs("killed", trained(1e20, beside(0.3, 4, -1), done=False))
    runs("diverged", trained(1e20, beside(None, 4, None)))
    runs("timed", trained(1e20, beside(0.3, 4, -1)), "2h")
    foreign = {"train": {"budget": "4 steps", "model": {"type": "pretrained", "path": "gpt2"}}}
    runs("tuned", trained(1e20, beside(0.3, 4, -1, model="sft"), stage="sft"), sft=foreign)
    folder = runs("other", [*beside(0.3, None, -1, model="gpt2"), "{broken\n"])
    said = tell(folder)
    assert len(said["points"]) == 6
    assert sorted(said["left_out"]) == [
        "1 damaged lines of logs",
        "diverged/base: its score is not finite",
        "killed/base: its training is running",
        "other/gpt2: not trained in its run",
        "timed/base: its budget is in seconds",
        "tuned/sft: it started from a model of unknown FLOPs",
    ]


def test_scores_of_other_items_are_refused(command, runs):
    """Or of another tokenizer: their fingerprints differ."""
    folder = ladder(runs)
    runs("odd", trained(1e19, beside(0.5, 4, -1, fingerprint="g")))
    _, err = command("scaling", "emergence", folder, status=2)
    assert "scores of other items or tokenizers cannot be compared" in err
    assert "odd/base" in err
    assert len(list(folder.iterdir())) == 7


def test_scores_that_are_no_shares_are_left_out(tell, command, runs):
    """Each with the reason, where their metric is named."""
    ladder(runs)
    runs("percent", trained(1e20, [score(45, 4)]))
    runs("none", trained(1e20, [score(0.4, 4, n=0)]))
    runs("unknown", trained(1e20, [score(0.4, 4, n=None)]))
    folder = runs("text", trained(1e20, [score("0.4", 4)]))
    _, err = command("scaling", "emergence", folder, status=2)
    assert "no score is a share of items: hellaswag/acc" in err
    assert "name a metric by --metric" in err
    said = tell(folder, "--metric", "acc")
    assert len(said["points"]) == 6
    assert sorted(said["left_out"]) == [
        "none/base: n: 0 is no number of items",
        "percent/base: score: 45 is no share of items; divide percentages by 100",
        "text/base: its score is not finite",
        "unknown/base: its number of items is not known",
    ]


def test_runs_that_are_given_twice(tell, runs, tmp_path):
    """Count once and are named: by path and folder, by a link, or as a copy. Other seeds are others."""
    folder = ladder(runs)
    (tmp_path / "link").symlink_to(folder / "run0")
    shutil.copytree(folder / "run1", tmp_path / "copy")
    said = tell(folder, folder / "run5", tmp_path / "link", tmp_path / "copy")
    assert len(said["points"]) == 6
    assert said["left_out"] == ["run5/base, run0/base, copy/base: given before, and counted once"]
    spec = yaml.safe_load((tmp_path / "copy" / "resolved.yaml").read_text(encoding="utf-8"))
    text = yaml.safe_dump(spec | {"seed": 7})
    (tmp_path / "copy" / "resolved.yaml").write_text(text, encoding="utf-8")
    assert len(tell(folder, tmp_path / "copy")["points"]) == 7


def test_a_training_that_ended_early(tell, runs):
    """Has the FLOPs of the tokens that it reached; with a budget in epochs these are not known."""
    events = [*trained(8e18, [e for n in (1, 2, 3, 4) for e in beside(0.3, n, -1.0)])]
    events.insert(-1, {"event": "ended_early", "stage": "base", "step": 4, "reason": "x"})
    said = tell(runs("half", events, "800 tokens"))
    assert by_name(said)["half/base"]["flops"] == pytest.approx(4e18)
    said = tell(runs("epochs", events, "2 epochs"))
    assert len(said["points"]) == 4
    (left_out,) = said["left_out"]
    assert "epochs/base@1" in left_out
    assert left_out.endswith("it ended early, and its budget is in epochs")


def test_runs_may_be_named_one_by_one(tell, runs):
    """Rather than all of a folder."""
    folder = ladder(runs)
    said = tell(*(folder / f"run{n}" for n in range(2, 6)))
    assert len(said["points"]) == 4


def test_the_metric_is_chosen(command, tell, runs):
    """By name, by default the commonest share; what is none is refused."""
    for number in range(5):
        more = [
            score(0.2 * number, 4, "exact_match", evaluator="gsm8k"),
            score(9.0, 4, "perplexity", evaluator="perplexity", higher_is_better=False),
            score(0.1, 4, "acc", evaluator="mmlu"),
        ]
        folder = runs(f"r{number}", trained(10.0 ** (18 + number), beside(0.4, 4, -1) + more))
    assert tell(folder)["metric"] == "hellaswag/acc"
    said = tell(folder, "--metric", "exact_match", "--chance", "0")
    assert (said["metric"], said["chance"]) == ("gsm8k/exact_match", 0)
    assert said["log_probability"] is None
    for metric, told in (
        ("acc", "is of several evaluators; name one of: hellaswag/acc, mmlu/acc"),
        ("bleu", "no model has it"),
        ("perplexity", "no share of items"),
    ):
        _, err = command("scaling", "emergence", folder, "--metric", metric, status=2)
        assert told in " ".join(err.split())
    _, err = command("scaling", "emergence", folder, "--metric", "exact_match", status=2)
    assert "the score by chance is not known" in err


def test_names_are_text(command, runs):
    """No markup, and nothing that controls a terminal."""
    folder = ladder(runs, evaluator="[red]x[/red]\x1b[2J")
    out, _ = command("scaling", "emergence", folder)
    assert "[red]x[/red]\\x1b[2J/acc" in out


@pytest.mark.parametrize("kind", ["svg", "html"])
def test_names_in_a_plot_are_text(command, runs, tmp_path, kind):
    """No elements of a page."""
    folder = ladder(runs, evaluator="</title><script>alert(1)</script>")
    file = tmp_path / f"scores.{kind}"
    command("scaling", "emergence", folder, "--plot", file)
    text = file.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text


def test_no_scores_and_no_runs(command, runs, tmp_path):
    """Are said."""
    folder = runs("a", trained(1e18, []))
    assert "no run has scores" in command("scaling", "emergence", folder, status=2)[1]
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "is not a run's folder" in command("scaling", "emergence", empty, status=2)[1]
    runs("b", trained(1e18, [score(9.0, 4, "perplexity", higher_is_better=False)]))
    _, err = command("scaling", "emergence", folder, status=2)
    assert "no score is a share of items: hellaswag/perplexity" in err


def test_a_real_run(tell, tiny_spec, run_here, tmp_path):
    """Its checkpoints' scores on a benchmark of one's own, by their FLOPs; nothing is told of them."""
    rows = [{"choices": ["cat", "mat", "mouse", "chairs"], "gold": n % 4} for n in range(8)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    record = {
        "kind": "choice", "summary": "", "prompt": "the cat sat on a", "rows": {"path": "rows.jsonl"},
        "questions": [{"choices": "choices", "gold": "gold", "metrics": ["acc"]}],
    }  # fmt: skip
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump(record), encoding="utf-8")
    own = {"type": "benchmark", "file": str(file)}
    tiny_spec["stages"]["base"]["train"]["evaluate"] = [own | {"every": "1 steps"}]
    tiny_spec["stages"]["scores"] = {"evaluate": {"models": ["base"], "evaluators": [own]}}
    run = run_here(tiny_spec)
    (training,) = run.events("training")
    said = tell(run.folder)
    assert (said["metric"], said["chance"]) == ("benchmark/acc", 0.25)
    points = said["points"]
    assert [p["name"] for p in points] == [*(f"tiny/base@{n}" for n in range(1, 6)), "tiny/base"]
    assert [p["flops"] / training["flops"] for p in points] == pytest.approx(
        [n / 6 for n in range(1, 7)], rel=1e-6
    )
    logprobs = [p["logprob"] for p in points]
    assert max(logprobs) < 0
    assert len(set(logprobs)) == 6
    assert said["threshold"] is None
