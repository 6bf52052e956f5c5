"""What a plan says of data and loss: epochs, effective tokens, and scaling laws."""

from __future__ import annotations

import json
import shutil

import pytest
from engine_plan.supply import Supply

from engine import PUBLISHED_LAWS, REPEATS, FittedLaw, ScalingLaw, effective_tokens, read_json

pytestmark = pytest.mark.usefixtures("on_a_cpu")
LAW = ScalingLaw(E=1.5, A=20, alpha=0.3, B=60, beta=0.4)


@pytest.fixture
def small(tiny_spec, command, write_spec, finished_run):
    """The plan of the tiny spec, whose corpus a finished run has prepared."""

    def small(*options, text=False):
        shared = ("--runs", finished_run.parent, "--speed", 1e9, *options)
        if text:
            return " ".join(command("plan", write_spec(tiny_spec), *shared)[0].split())
        (stage,) = json.loads(command("plan", write_spec(tiny_spec), *shared, "--json")[0])
        return stage

    return small


@pytest.fixture
def law(tmp_path):
    """Writes the file of a law of runs with so many FLOPs."""

    def write(best=LAW, tokenizer="", flops=(1e8, 1e13), repeats=REPEATS, drawn=()):
        draws = tuple(ScalingLaw(best.E + d, best.A, best.alpha, best.B, best.beta, best.counted)
                      for d in (-0.1, 0, 0.1))  # fmt: skip
        file = tmp_path / "law.json"
        fitted = FittedLaw(
            best, draws, 0.0, "nats per token", flops, tokenizer,
            repeats=repeats, drawn_repeats=drawn,
        )  # fmt: skip
        file.write_text(fitted.text(), encoding="utf-8")
        return file

    return write


@pytest.mark.parametrize(("epochs", "worth"), [(4, 3.73), (16, 10.58), (40, 15.17)])
def test_epochs_of_a_prepared_corpus_are_counted(small, tiny_spec, finished_run, epochs, worth):
    """And what they are worth (Muennighoff et al. 2023), up to the rest of the last step."""
    tiny_spec["stages"]["base"]["train"]["budget"] = f"{epochs} epochs"
    card = read_json(finished_run / "corpus" / "card.json")
    there = card["sources"][0]["tokens"]
    stage = small()
    assert stage["steps"] == -(-epochs * there // 256)
    assert stage["data"]["tokens"] == there
    assert stage["data"]["epochs"] == pytest.approx(epochs, rel=0.03)
    assert stage["data"]["effective_tokens"] == effective_tokens(there, stage["tokens"])
    assert stage["data"]["effective_tokens"] / there == pytest.approx(worth, rel=0.03)
    assert "epochs, worth" in small(text=True)


def test_a_source_with_much_weight_is_read_again_first(tmp_path):
    """Each source is counted alone: half of 400 tokens are of the smaller, which is read twice."""
    there = Supply({"small": (100, 0.5), "large": (900, 0.5)}, tmp_path, "")
    assert there.tokens == 1000
    assert there.epochs(400) == {"small": 2, "large": pytest.approx(2 / 9)}
    assert there.effective(400) == effective_tokens(100, 200) + 200 < 400
    assert there.effective(200) == 200


def test_the_shares_are_those_of_the_corpus_card(small, finished_run, tmp_path):
    """Another source, with three quarters of the weight and a quarter of the tokens; one is unread."""
    card = read_json(finished_run / "corpus" / "card.json")
    (first,), name = card["sources"], card["sources"][0]["source"]
    there = first["tokens"]
    card["sources"] += [
        {**first, "source": "more", "tokens": there // 3},
        {**first, "source": "unread"},
    ]
    card["mixture"] = [
        {"source": name, "weight": 1},
        {"source": "more", "weight": 3},
        {"source": "unread", "weight": 0},
    ]
    runs = tmp_path / "runs"
    shutil.copytree(finished_run, runs / finished_run.name)
    copied = runs / finished_run.name / "corpus" / "card.json"
    copied.write_text(json.dumps(card), encoding="utf-8")
    stage = small("--runs", runs)
    data, needed = stage["data"], stage["tokens"]
    assert data["tokens"] == there + there // 3
    assert data["sources"] == {
        name: pytest.approx(needed / 4 / there),
        "more": pytest.approx(needed * 3 / 4 / (there // 3)),
    }
    assert "of its sources)" in small("--runs", runs, text=True)


def test_a_corpus_of_another_spec_is_not_this_one_s(small, tiny_spec):
    """Nor is one that is not there: then nothing is known of its size."""
    prepare = tiny_spec["stages"]["corpus"]["prepare"]
    prepare["holdout"] = 0.2
    assert small()["data"] is None
    assert "what is there is known when it is prepared" in small(text=True)
    tiny_spec["stages"]["base"]["train"]["budget"] = "2 epochs"
    assert small()["steps"] is None


def test_the_best_use_of_the_compute_stands_beside_the_spec_s(small):
    """By the most trusted published law, which is far from home here, and says so."""
    stage = small()
    (outlook,) = stage["outlook"]
    best, (name, published) = outlook["optimum"], next(iter(PUBLISHED_LAWS.items()))
    assert outlook["law"] == best["law"] == name
    assert best["flops"] == stage["six_n_d"] == 6 * stage["parameters"] * stage["tokens"]
    assert best["flops"] == pytest.approx(6 * best["parameters"] * best["tokens"])
    assert outlook["loss"] == published.loss(stage["parameters"], stage["tokens"])
    assert outlook["excess"] == pytest.approx(outlook["loss"] - best["loss"])
    assert outlook["excess"] > 0
    assert outlook["warnings"] == [
        "outside that law's runs: 70M to 16B parameters on 5B to 500B tokens",
    ]


def test_a_law_of_one_s_own_gives_the_final_loss(small, law, finished_run):
    """With its interval, and without a warning within its range and with its tokenizer."""
    files = read_json(finished_run / "corpus" / "manifest.json")["files"]
    file = law(tokenizer=files["tokenizer/tokenizer.json"])
    stage = small("--law", file)
    own = stage["outlook"][1]
    assert own["loss"] == pytest.approx(LAW.loss(stage["parameters"], stage["tokens"]))
    assert own["low"] < own["loss"] < own["high"]
    assert own["warnings"] == []
    told = small("--law", file, text=True)
    assert f"loss {own['loss']:.3f} ({own['low']:.3f} to {own['high']:.3f})" in told


def test_a_law_counts_repeated_data_as_it_was_fitted(small, law, tiny_spec, finished_run):
    """By its own R*, not by the published one."""
    tiny_spec["stages"]["base"]["train"]["budget"] = "16 epochs"
    there = read_json(finished_run / "corpus" / "card.json")["sources"][0]["tokens"]
    stage = small("--law", law(repeats=2.0))
    fresh = effective_tokens(there, stage["tokens"], 2.0)
    own = stage["outlook"][1]
    assert own["loss"] == pytest.approx(LAW.loss(stage["parameters"], fresh))
    assert own["loss"] > LAW.loss(stage["parameters"], stage["data"]["effective_tokens"])


def test_a_law_s_interval_spans_the_values_of_r(small, law, tiny_spec):
    """Where data is repeated each draw counts it by its own R*."""
    tiny_spec["stages"]["base"]["train"]["budget"] = "16 epochs"
    plain = small("--law", law(repeats=10.0))["outlook"][1]
    apart = small("--law", law(repeats=10.0, drawn=(20.0, 10.0, 5.0)))["outlook"][1]
    assert apart["loss"] == plain["loss"]
    assert apart["effective"] == plain["effective"]
    assert apart["low"] < plain["low"]
    assert apart["high"] > plain["high"]


def test_a_law_that_may_not_hold_is_told(small, law, tiny_spec):
    """How far outside its range a run lies, and that its tokenizer differs or is not known."""
    flops = small()["flops"]
    larger = small("--law", law(tokenizer="other", flops=(1.0, flops / 8)))["outlook"][1]
    assert larger["warnings"] == [
        "8 times the FLOPs of the largest run that it was fitted to",
        "it was fitted with another tokenizer, whose losses are not to be compared",
    ]
    tiny_spec["stages"]["corpus"]["prepare"]["holdout"] = 0.2
    smaller = small("--law", law(tokenizer="other", flops=(4 * flops, 1e30)), text=True)
    assert "4 times fewer FLOPs than the smallest run that it was fitted to" in smaller
    assert "whether its tokenizer is this one is not known" in smaller


def test_a_law_without_embeddings_counts_none(small, law):
    """Its optimum is one of such parameters as well."""
    counted = ScalingLaw(1.5, 20, 0.3, 60, 0.4, "body")
    stage = small("--law", law(counted))
    own = stage["outlook"][1]
    assert own["parameters"] == stage["parameters"] - 320 * 32  # tied, rounded up to 64
    assert own["optimum"]["flops"] == 6 * own["parameters"] * stage["tokens"]
    assert own["others"] == 320 * 32
    told = small("--law", law(counted), text=True)
    assert "parameters without embedding and head" in told
    assert "(and 10.2k of these)" in told


def test_a_stage_that_goes_on_has_no_optimum(command, tiny_spec, write_spec, finished_run):
    """What it learns is described by no law of pre-training; times and cost add up."""
    stages = tiny_spec["stages"]
    stages["more"] = {"train": {**stages["base"]["train"], "model": "base"}}
    shared = ("--runs", finished_run.parent, "--speed", 1e9, "--price", 2)
    found = json.loads(command("plan", write_spec(tiny_spec), *shared, "--json")[0])
    assert [len(one["outlook"]) for one in found] == [1, 0]
    out, _ = command("plan", write_spec(tiny_spec), *shared)
    assert out.splitlines()[-1].startswith("all stages  about ")


def test_a_law_s_file_that_is_none(small, tmp_path, command):
    """Is told in one line."""
    _, err = command("plan", "--compute", "1e20", "--law", tmp_path / "no.json", status=2)
    assert "no.json: is no law" in err
