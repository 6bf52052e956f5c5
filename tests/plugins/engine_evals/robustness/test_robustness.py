"""Perturbed rows ask the same question, and what they cost is taken row by row."""

from __future__ import annotations

import json
import re
from itertools import islice
from typing import get_args

import numpy as np
import pytest
from engine_evals.benchmarks.record import ChoiceRecord, standard_names, standard_record
from engine_evals.benchmarks.statistics import paired_interval
from engine_evals.config import Perturbation, Robustness
from engine_evals.robustness.perturbations import TEXT, distracted, reordered
from engine_evals.robustness.perturbed import build
from hypothesis import given, strategies as st

from engine import Response

ALL = get_args(Perturbation)
CHOICE = [name for name in standard_names() if isinstance(standard_record(name), ChoiceRecord)]
SENTENCE = "A revolving door is convenient for two direction travel, but where does it also serve?"

any_text = st.text(max_size=80)
words = st.lists(st.sampled_from([*SENTENCE.split(), "3,141", "naïve"]), max_size=30).map(" ".join)
seeds = st.integers(0, 1000)


def robustness(benchmark, **fields):
    """The evaluator from the fields that a spec would have."""
    return build(Robustness(benchmark=benchmark, **fields), None)


def asked(evaluator, limit=None):
    """For each item and perturbation (plainly: ""), its requests and the choices they are for."""
    found = []
    for item in islice(evaluator.items(), limit):
        requests = iter(item.requests)
        found.append(
            {
                name: (list(islice(requests, number)), choices)
                for name, (number, choices) in item.data[1].items()
            }
        )
    return found


def question(context):
    """The tested row's own prompt, and what stands before it."""
    before, _, own = context.rpartition("\n\n")
    return own, before


@pytest.mark.parametrize("name", TEXT)
@given(any_text | words, seeds, st.floats(0.01, 1))
def test_changes_are_a_function_of_seed_and_text(name, text, seed, strength):
    """Whatever was changed before; and one that is asked for nothing changes nothing."""
    once = TEXT[name](text, seed, strength)
    TEXT[name]("something else", seed, strength)
    assert TEXT[name](text, seed, strength) == once
    assert TEXT[name](text, seed, 0.0) == text


def test_another_seed_or_text_makes_other_changes():
    """Of each kind; two questions are not changed at the same places."""
    for change in TEXT.values():
        assert len({change(SENTENCE, seed, 0.5) for seed in range(20)}) > 10
    assert len({distracted(SENTENCE, seed) for seed in range(20)}) > 4
    assert len({tuple(reordered(list("ABCDE"), seed)) for seed in range(20)}) > 10
    assert len({tuple(reordered([*"ABCD", str(number)], 0)) for number in range(20)}) > 10
    for change in TEXT.values():
        alone, after = (change(text, 0, 0.5) for text in (SENTENCE, f"{SENTENCE} Or?"))
        assert not after.startswith(alone)


@given(any_text | words, seeds)
def test_typos_keep_short_words_and_the_ends_of_long_ones(text, seed):
    """Each word of four letters or more gets one; all else stays."""
    long = re.compile(r"[^\W\d_]{4,}")
    kept = [re.escape(part) for part in long.split(text)]
    pattern = kept[0]
    for word, after in zip(long.findall(text), kept[1:], strict=True):
        pattern += f"({re.escape(word[0])}.+?{re.escape(word[-1])}){after}"
    typed = re.fullmatch(pattern, TEXT["typos"](text, seed, 1.0), re.DOTALL)
    assert typed
    for word, wrong in zip(long.findall(text), typed.groups(), strict=True):
        assert wrong != word
        assert abs(len(wrong) - len(word)) <= 1


@given(st.text(st.characters(codec="ascii"), max_size=80) | words, seeds)
def test_case_and_white_space_leave_letters_and_words(text, seed):
    """They change nothing else."""
    assert TEXT["case"](text, seed, 1.0) == text.swapcase()
    assert TEXT["case"](text, seed, 0.5).lower() == text.lower()
    assert TEXT["whitespace"](text, seed, 1.0).split() == text.split()


@given(any_text, st.lists(st.text(max_size=4), min_size=2, max_size=6), seeds)
def test_a_distractor_stands_before_and_options_all_stay(text, options, seed):
    """In another order than before."""
    assert distracted(text, seed).endswith(f". {text}")
    order = reordered(options, seed)
    assert sorted(order) == list(range(len(options))) != order


def test_strength_is_the_share_that_is_changed():
    """Of words, letters and spaces."""
    text = " ".join(SENTENCE.split() * 300)
    gaps = text.count(" ")
    letters = sum(c.isalpha() for c in text)
    for strength in (0.1, 0.4):
        cased, spaced = (TEXT[name](text, 1, strength) for name in ("case", "whitespace"))
        assert sum(a != b for a, b in zip(text, cased, strict=True)) / letters == pytest.approx(
            strength, abs=0.02
        )
        spaces = len(re.findall(r"   |\t", spaced))
        assert spaces / gaps == pytest.approx(strength, abs=0.03)
        long = re.findall(r"[^\W\d_]{4,}", text)
        typed = re.sub(r"[^\w ]", "", TEXT["typos"](text, 1, strength)).split(" ")
        plain = re.sub(r"[^\w ]", "", text).split(" ")
        wrong = sum(a != b for a, b in zip(plain, typed, strict=True))
        assert wrong / len(long) == pytest.approx(strength, abs=0.03)


@pytest.mark.covers(*(f"evaluator/robustness.{f}" for f in ("benchmark", "shots", "strength")))
@pytest.mark.parametrize("name", CHOICE)
def test_only_the_tested_rows_question_changes(name, evaluator, folder):
    """Of every benchmark; plainly it is asked as the benchmark asks, with its examples."""
    part = {"subjects": ["astronomy"]} if name == "mmlu" else {}
    rows = str(folder / "mmlu" / "astronomy" / "test.jsonl") if part else str(folder)
    own = list(evaluator(name, rows=rows, shots=1, **part).items())
    found = asked(robustness(name, rows=rows, shots=1, strength=1.0))
    assert len(found) == len(own) > 0
    for item, by_name in zip(own, found, strict=True):
        plain, choices = by_name.pop("")
        assert tuple(plain) == item.requests
        assert choices == item.data[1]
        assert set(by_name) == set(ALL) - (
            set() if standard_record(name).options_field else {"option-order"}
        )
        for perturbation, (requests, others) in by_name.items():
            assert [q.texts for q in others] == [q.texts for q in choices]
            for before, after in zip(plain, requests, strict=True):
                assert question(before.context)[1] == question(after.context)[1]
                assert question(before.context)[0] != question(after.context)[0], perturbation
                if name != "winogrande":  # there the sentence's end is what is compared
                    assert before.continuation == after.continuation


@pytest.mark.covers("evaluator/robustness.seed", "evaluator/robustness.perturbations")
def test_the_right_option_keeps_its_text_under_another_letter(real_rows, write, tmp_path):
    """Real questions; another seed gives another order."""
    rows = real_rows("commonsenseqa_dev_sample")
    file = str(write(tmp_path / "rows.jsonl", rows))
    fields = {"rows": file, "perturbations": ["option-order"]}
    seen = {}
    for seed in (0, 1):
        found = asked(robustness("commonsense-qa", seed=seed, **fields))
        moved = 0
        for row, by_name in zip(rows, found, strict=True):
            assert list(by_name) == ["", "option-order"]
            requests, (choices,) = by_name["option-order"]
            options = dict(re.findall(r"^([A-E])\. (.*)$", requests[0].context, re.MULTILINE))
            (gold,) = choices.gold
            right = row["choices"]["text"]["ABCDE".index(row["answerKey"])]
            assert options["ABCDE"[gold]] == right
            assert sorted(options.values()) == sorted(row["choices"]["text"])
            moved += "ABCDE"[gold] != row["answerKey"]
        assert moved > len(rows) / 2
        seen[seed] = [by_name["option-order"][0][0].context for by_name in found]
    assert sum(a != b for a, b in zip(seen[0], seen[1], strict=True)) > len(rows) / 2


@pytest.mark.covers("evaluator/robustness.rows", "evaluator/robustness.limit")
def test_drops_are_those_of_the_rows(tiny_spec, run_here, real_rows, write, tmp_path):
    """On real questions and a real model: computed again from the rows' log-probabilities."""
    rows = real_rows("commonsenseqa_dev_sample", 40)
    file = write(tmp_path / "rows.jsonl", rows)
    evaluator = {"type": "robustness", "benchmark": "commonsense-qa", "rows": str(file)}
    tiny_spec["stages"]["base"]["train"]["model"]["context"] = 512
    tiny_spec["stages"]["base"]["train"]["batch"]["tokens"] = 512
    tiny_spec["stages"]["scores"] = {
        "evaluate": {"models": ["base"], "evaluators": [{**evaluator, "limit": 30, "strength": 1}]}
    }
    here = run_here(tiny_spec)
    scores = {e["metric"]: e for e in here.events("score") if e["evaluator"] == "robustness"}
    (kept,) = (here.folder / "scores" / "rows").glob("*.jsonl")
    answers = {}
    for line in filter(None, kept.read_text(encoding="utf-8").splitlines()):
        row = json.loads(line)
        answers[row["id"]] = [response["logprob"] for response in row["responses"]]
    logprob_RPC = np.array([answers[str(i)] for i in range(30)]).reshape(30, 1 + len(ALL), 5)
    items = asked(robustness("commonsense-qa", rows=str(file), strength=1), 30)
    gold_RP = np.array(
        [[min(choices[0].gold) for _, choices in by_name.values()] for by_name in items]
    )
    right_RP = (logprob_RPC.argmax(-1) == gold_RP).astype(float)
    expected = {"acc", *(f"acc/{name}" for name in ALL), *(f"acc_drop/{name}" for name in ALL)}
    assert set(scores) == expected
    assert scores["acc"]["value"] == pytest.approx(right_RP[:, 0].mean())
    for i, name in enumerate(ALL, 1):
        drop_R = right_RP[:, 0] - right_RP[:, i]
        found = scores[f"acc_drop/{name}"]
        assert scores[f"acc/{name}"]["value"] == pytest.approx(right_RP[:, i].mean())
        assert found["value"] == pytest.approx(drop_R.mean(), abs=1e-12)
        assert found["stderr"] == pytest.approx(drop_R.std(ddof=1) / np.sqrt(30), abs=1e-12)
        assert (found["n"], found["higher_is_better"]) == (30, False)
        assert found["interval"] == pytest.approx(paired_interval(drop_R), abs=1e-12)
        assert scores[f"acc/{name}"]["higher_is_better"]
    assert any(scores[f"acc_drop/{name}"]["stderr"] > 0 for name in ALL)


@pytest.mark.covers("evaluator/robustness.every")
def test_it_runs_during_training(tiny_spec, run_here, folder):
    """As often as asked; prompts that did not fit are counted once a row."""
    evaluate = {"type": "robustness", "benchmark": "hellaswag", "rows": str(folder)}
    tiny_spec["stages"]["base"]["train"]["evaluate"] = [{**evaluate, "every": "3 steps"}]
    found = [e for e in run_here(tiny_spec).events("score") if e["metric"] == "acc_norm_drop/typos"]
    assert [(e["step"], e["n"]) for e in found] == [(3, 3), (6, 3)]


def test_parts_are_asked_alike_but_not_told_apart(invented, write, tmp_path):
    """MMLU's subjects would make hundreds of figures; a row is in trouble once."""
    rows = [
        {**row, "subject": s} for s in ("anatomy", "virology") for row in invented["mmlu"]["test"]
    ]
    file = write(tmp_path / "all.jsonl", [*rows, {**rows[0], "choices": ["only"]}])
    evaluator = robustness("mmlu", rows=str(file), shots=0, perturbations=["typos", "option-order"])
    found = [
        evaluator.score(
            item,
            [Response(logprob=-i % 5, tokens=1, truncated=i > 5) for i in range(12)],
        )
        for item in evaluator.items()
    ]
    scores = {score.metric: score for score in evaluator.summarise(found)}
    assert set(scores) == {
        "acc", "acc/typos", "acc_drop/typos", "acc/option-order", "acc_drop/option-order",
        "malformed", "truncated",
    }  # fmt: skip
    assert (scores["truncated"].value, scores["malformed"].value) == (4, 1)
    assert (scores["acc"].n, scores["acc"].higher_is_better) == (4, True)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"benchmark": "gsm8k"}, "no multiple-choice benchmark 'gsm8k'; there are arc-challenge, "),
        ({"benchmark": "hellaswg"}, "no multiple-choice benchmark 'hellaswg'"),
        ({"benchmark": "piqa", "perturbations": ["option-order"]},
         "the choices of piqa are scored separately, so they have no order; leave out"),
        ({"benchmark": "piqa", "perturbations": ["rhyme"]}, "'option-order' or 'distractor'"),
        ({"benchmark": "piqa", "strength": 0}, "strength"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_is_an_error_of_the_spec(fields, told):
    """Before anything runs."""
    with pytest.raises(ValueError, match=told):
        Robustness(**fields)
