"""Evaluators are asked once for every item, and only for what is missing."""

from __future__ import annotations

import json
from dataclasses import replace
from types import SimpleNamespace

import pytest
from engine_inference.language_model import SharedPrefixLM

from engine.contracts.language_model import Generation, LogLikelihood
from engine.contracts.scoring import Item, Score
from engine.contracts.spec import names_of
from engine.errors import RunError, SpecError
from engine.evaluation import Measured, evaluate, gains
from engine.processes.process import Process
from engine.registry import Plugins


class Letters:
    """How likely one letter is after another: two requests an item."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.scored: list[str] = []

    def items(self):
        for i in range(self._count):
            requests = (LogLikelihood("the", " cat"), LogLikelihood("the", f" {i}"))
            yield Item(f"item-{i}", requests, data=i)

    def score(self, item, responses):
        self.scored.append(item.id)
        assert len(responses) == 2
        return {"difference": responses[1].logprob - responses[0].logprob, "number": item.data}

    def summarise(self, rows):
        return [Score("number", sum(r["number"] for r in rows), None, len(rows))]


@pytest.fixture
def lm(finished_run):
    from engine.storage.model_folder import Artifact

    artifact = Artifact(finished_run / "base" / "final")
    return SharedPrefixLM(artifact.model(), artifact.tokenizer(), context=32)


def _scores(letters, lm, **options):
    """Without the fingerprint."""
    return [replace(s, fingerprint="") for s in evaluate(letters, lm, Process(), **options).scores]


def test_every_item_is_scored_once_with_all_its_answers(lm):
    """In rows that come back in the items' order."""
    letters = Letters(9)
    assert _scores(letters, lm) == [Score("number", 36, None, 9)]
    assert letters.scored == [f"item-{i}" for i in range(9)]


def test_a_limit_takes_the_first_items(lm):
    """And leaves the others unasked."""
    letters = Letters(9)
    assert _scores(letters, lm, limit=4) == [Score("number", 6, None, 4)]
    assert len(letters.scored) == 4


def test_a_clean_score_follows_each_score_over_touched_items(lm):
    """It is the score over the others, with their fingerprint; none where none or all are touched."""
    (whole, clean) = evaluate(
        Letters(5), lm, Process(), touched={"item-3", "item-4", "gone"}
    ).scores
    (others,) = evaluate(Letters(3), lm, Process()).scores
    assert (whole.metric, whole.value, whole.n) == ("number", 10, 5)
    assert clean == replace(others, metric="number_clean")
    assert clean.fingerprint != whole.fingerprint
    for touched in ({"gone"}, {f"item-{n}" for n in range(5)}):
        assert [s.n for s in evaluate(Letters(5), lm, Process(), touched=touched).scores] == [5]


def test_a_part_without_touched_items_has_no_clean_score(lm):
    """Its score would be the same."""

    class Parts(Letters):
        def summarise(self, rows):
            odd = [row for row in rows if row["number"] % 2]
            return [*super().summarise(rows), Score("odd", 1.0, None, len(odd))]

    scores = evaluate(Parts(5), lm, Process(), touched={"item-4"}).scores
    assert [(s.metric, s.n) for s in scores] == [("number", 5), ("number_clean", 4), ("odd", 2)]


def test_a_clean_gain_is_over_items_that_both_models_answered(lm):
    """And that no document has."""

    class Compared(Letters):
        def compare(self, rows, baseline):
            assert rows == baseline
            return self.summarise(rows)

    five, four = (Measured([], {f"item-{n}": {"number": n} for n in range(m)}) for m in (5, 4))
    assert gains(Compared(5), five, four, {"item-1"}) == [
        Score("number", 6, None, 4),
        Score("number_clean", 5, None, 3),
    ]


def test_a_killed_evaluation_goes_on(lm, tmp_path):
    """Rows on the disk are not asked again; a line that was cut off is."""
    file = tmp_path / "rows" / "letters.jsonl"
    evaluate(Letters(9), lm, Process(), rows_file=file)
    (kept,) = file.parent.iterdir()
    lines = kept.read_text(encoding="utf-8").splitlines(keepends=True)
    assert [json.loads(line)["id"] for line in lines] == [f"item-{i}" for i in range(9)]
    kept.write_text("".join(lines[:5]) + lines[5][:20], encoding="utf-8")
    again = Letters(9)
    assert _scores(again, lm, rows_file=file) == [Score("number", 36, None, 9)]
    assert again.scored == ["item-5", "item-6", "item-7", "item-8"]
    once_more = Letters(9)
    evaluate(once_more, lm, Process(), rows_file=file)
    assert once_more.scored == []


def test_a_row_says_what_was_asked_and_answered(lm, tmp_path):
    """And is asked again where the prompt has changed since."""
    file = tmp_path / "letters.jsonl"
    evaluate(Letters(3), lm, Process(), rows_file=file)
    (kept,) = tmp_path.iterdir()
    rows = [json.loads(line) for line in kept.read_text(encoding="utf-8").splitlines()]
    assert len({row["prompt"] for row in rows}) == 3
    assert all(len(row["responses"]) == 2 for row in rows)
    assert all(row["responses"][0]["logprob"] < 0 for row in rows)
    assert [row["values"]["number"] for row in rows] == [0, 1, 2]
    rows[1]["prompt"] = "another"
    kept.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    again = Letters(3)
    evaluate(again, lm, Process(), rows_file=file)
    assert again.scored == ["item-1"]


def test_a_fingerprint_is_of_prompts_and_tokenizer(lm):
    """The same for the same items; another for others, and for another tokenizer."""

    def fingerprint(count):
        (score,) = evaluate(Letters(count), lm, Process()).scores
        return score.fingerprint

    first = fingerprint(3)
    assert (len(first), fingerprint(3)) == (12, first)
    assert fingerprint(4) != first
    lm.tokenizer.add_tokens(["ca"])
    assert fingerprint(3) != first


def test_what_scores_do_not_show_is_told(lm):
    """Prompts that lost their beginning, texts without an end."""

    class Long(Letters):
        def items(self):
            long = LogLikelihood("the cat sat on a mat " * 20, " and")
            yield Item("long", (long, Generation("the", max_tokens=3)), data=0)

    told = []
    evaluate(Long(1), lm, Process(), warn=told.append)
    assert told == [
        "1 of 2 prompts did not fit and lost their beginning",
        "1 of 1 texts were cut off at their length limit",
    ]


@pytest.mark.covers("Evaluate.models", "Evaluate.data", "Evaluate.evaluators", "Stage.evaluate")
def test_an_evaluate_stage_scores_every_model_by_every_evaluator(tiny_spec, run_here, finished_run):
    """Stages and folders alike; the same model has the same score as at its training's end."""
    tiny_spec["stages"]["base"]["train"]["precision"] = "fp32"  # as models are scored later on
    folder = str(finished_run / "base" / "final")
    tiny_spec["stages"]["scores"] = {
        "evaluate": {
            "models": ["base", {"type": "pretrained", "path": folder}],
            "data": "corpus",
            "evaluators": [{"type": "perplexity"}, {"type": "perplexity", "limit": 2}],
        }
    }
    run = run_here(tiny_spec)
    scores = [e for e in run.events("score") if e["metric"] == "perplexity"]
    assert [e["evaluator"] for e in scores[1:]] == ["perplexity", "perplexity-2"] * 2
    trained, *scored = [(e["model"], round(e["value"], 3), e["n"]) for e in scores]
    items = trained[2]
    assert items > 2
    assert [(model, n) for model, _, n in scored] == [
        ("base", items), ("base", 2), (folder, items), (folder, 2)
    ]  # fmt: skip
    assert scored[0] == trained  # and the pretrained one is another model
    assert scored[0][1] != scored[1][1]
    assert (run.folder / "scores" / "rows").is_dir()


EVALUATORS = Plugins.discover().selected(()).of_kind("evaluator")


@pytest.mark.covers(*(f"evaluator/{kind}.name" for kind in EVALUATORS))
def test_each_evaluator_of_a_stage_has_a_name_of_its_own():
    """The one that it was given, or its type; numbered, so that no figure hides another."""
    configs = [found.load_config() for found in EVALUATORS.values()]
    named = [config.model_construct(name=f"own-{n}") for n, config in enumerate(configs)]
    assert names_of(named) == [f"own-{n}" for n in range(len(configs))]
    given = [
        SimpleNamespace(type_name="perplexity", name=n)
        for n in (None, "short", None, "perplexity-2")
    ]
    assert names_of(given) == ["perplexity", "short", "perplexity-2", "perplexity-2-2"]


def test_ranks_share_items_and_agree(
    tiny_spec, write_spec, engine_ranks, finished_run, prepared, tmp_path
):
    """Three processes, of which the last has fewer items: every row is one process's to 1e-4."""
    folder = str(finished_run / "base" / "final")
    tiny_spec["stages"]["base"]["train"]["strategy"] = "ddp"
    tiny_spec["stages"]["scores"] = {
        "evaluate": {
            "models": [{"type": "pretrained", "path": folder}],
            "data": "corpus",
            "evaluators": [{"type": "perplexity", "limit": limit} for limit in (8, 2)],
        }
    }
    spec, found = write_spec(tiny_spec), []
    for processes in (1, 3):
        runs = tmp_path / f"by-{processes}"
        prepared(runs)
        engine_ranks(processes, "run", spec, "--runs", runs, "--stage", "scores")
        rows = {}
        for file in sorted((runs / "tiny" / "scores" / "rows").glob("0-0.*.jsonl")):
            lines = filter(None, file.read_text(encoding="utf-8").splitlines())
            rows |= {row["id"]: row["values"]["logprob"] for row in map(json.loads, lines)}
        found.append(rows)
    assert len(found[0]) == 8
    assert found[0] == pytest.approx(found[1], abs=1e-4)


def test_what_is_there_is_what_the_first_rank_saw(lm, tmp_path):
    """Else ranks would share the rest in different ways, and leave items out."""
    file = tmp_path / "letters.jsonl"
    evaluate(Letters(3), lm, Process(), rows_file=file)

    class Second(Process):
        """The second of two, to which the first says that nothing was there yet."""

        def gather(self, value):
            assert sorted(value) == ["item-1"]
            return [value]

        def broadcast(self, value):
            if not value:  # what was there
                return value
            (gathered,) = [value]
            return gathered | {f"item-{i}": gathered["item-1"] for i in (0, 2)}

    letters = Letters(3)
    evaluate(letters, lm, Second(rank=1, world_size=2), rows_file=file)
    assert letters.scored == ["item-1"]


def test_an_evaluator_that_needs_documents_says_where_they_come_from(tiny_spec, run_here):
    """Where no stage is named, and where nothing was held out: before anything runs."""
    stage = {"models": ["base"], "evaluators": [{"type": "perplexity"}]}
    tiny_spec["stages"]["scores"] = {"evaluate": stage}
    with pytest.raises(SpecError, match=r"needs held-out records.*`data`"):
        run_here(tiny_spec)
    tiny_spec["stages"]["corpus"]["prepare"]["holdout"] = 0
    stage["data"] = "base"
    with pytest.raises(SpecError, match=r"base.train.evaluate.0: .*needs(.|\n)*scores.evaluate"):
        run_here(tiny_spec)


def test_an_untrained_model_cannot_be_scored(tiny_spec, run_here):
    """It has no tokenizer."""
    llama = tiny_spec["stages"]["base"]["train"]["model"]
    tiny_spec["stages"]["scores"] = {
        "evaluate": {"models": [llama], "data": "corpus", "evaluators": [{"type": "perplexity"}]}
    }
    with pytest.raises(RunError, match="'llama' is untrained"):
        run_here(tiny_spec)
