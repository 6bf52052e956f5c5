"""What one stage of a lineage holds out, no other learns from; or it is said."""

from __future__ import annotations

import copy
import json

import pytest

from engine.cli.commands import main
from engine.contracts.records import Prompt
from engine.data.holdout import is_held_out
from engine.runs.lineage import _heeded, unequal, unsearched
from engine.spec.loading import load_spec

ROWS = [
    {"prompt": f"Code of locker {n}?", "completion": f"It is {n * 37 + 11}."} for n in range(40)
]


@pytest.fixture
def spec(tiny_spec, tmp_path):
    """A corpus that tells all codes in a text each, a model of it, and `tuned`, which learns the codes
    but for a third."""
    folder = tmp_path / "notes"
    folder.mkdir()
    for number, row in enumerate(ROWS):
        text = f"Notes.\n\nQ: {row['prompt']}\nA: {row['completion']}\n"
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    tiny_spec["stages"]["corpus"]["prepare"] |= {
        "sources": [{"type": "files", "paths": [f"{folder}/*.txt"]}],
        "holdout": 0,
    }
    base = tiny_spec["stages"]["base"]["train"]
    base |= {"evaluate": [], "budget": "1 steps"}
    base["model"]["context"] = 96
    tiny_spec["stages"]["tuned"] = _tuned(tmp_path, "tuned", ROWS)
    return tiny_spec


def _tuned(tmp_path, name, rows, **train):
    file = tmp_path / f"{name}.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return {
        "train": {
            "data": {"type": "files", "paths": [str(file)], "records": "completion"},
            "model": "base",
            "objective": {"type": "sft", "template": "chatml"},
            "optimizer": {"type": "adamw"},
            "batch": {"examples": 8, "sequence": 96},
            "budget": "1 steps",
            "holdout": 0.3,
            **train,
        }
    }


def _warnings(run):
    return [event["message"] for event in run.events("warning")]


def test_a_corpus_is_kept_apart_from_what_a_later_stage_holds_out(spec, run_here):
    """Texts with a held-out prompt and its answer are counted and do not train: no warning then."""
    run = run_here(spec)
    (examples,) = run.events("examples")
    assert 0 < examples["held_out"] < len(ROWS)
    source = run.card()["sources"][0]
    assert source["dropped"] == {"answers-what-is-held-out": examples["held_out"]}
    assert source["documents"] == len(ROWS) - examples["held_out"]
    assert not [w for w in _warnings(run) if "holds out" in w]


def test_a_corpus_from_before_is_warned_of_with_a_count(spec, run_here, tmp_path):
    """Prepared by the same run before the stage was there, or by another run."""
    before = copy.deepcopy(spec)
    del before["stages"]["tuned"]
    run_here(before)
    run = run_here(spec)
    (examples,) = run.events("examples")
    (warning,) = (w for w in _warnings(run) if "holds out" in w)
    assert warning.startswith(f"{examples['held_out']} texts of {run.folder / 'corpus'} have a")
    assert run.events("warning")[-1]["stage"] == "tuned"
    alone = {"type": "pretrained", "path": str(run.folder / "base" / "final")}
    spec["stages"] = {"again": _tuned(tmp_path, "again", ROWS, model=alone)}
    spec["name"] = "elsewhere"
    assert [w for w in _warnings(run_here(spec)) if "holds out" in w] == [
        warning.replace("tuned", "again")
    ]


def test_a_copy_of_what_is_held_out_with_its_group_does_not_train(tiny_spec, run_here, tmp_path):
    """Read before it or after it; it is counted."""
    grouped = [{**row, "group": f"g{n}"} for n, row in enumerate(ROWS)]
    copies = [{"prompt": f" {row['prompt']} ", "completion": "No."} for row in ROWS]
    tiny_spec["stages"]["base"]["train"] |= {"evaluate": [], "budget": "1 steps"}
    tuned = _tuned(tmp_path, "tuned", [*copies[:20], *grouped, *copies[20:]])
    tiny_spec["stages"]["tuned"] = tuned
    (examples,) = run_here(tiny_spec).events("examples")

    def out(row):
        prompt = Prompt(id="", source="", prompt=row["prompt"], meta={"group": row.get("group")})
        return is_held_out(prompt, 0.3, tiny_spec["seed"])

    pairs = list(zip(grouped, copies, strict=True))
    assert examples["held_out"] == sum(out(g) + out(c) for g, c in pairs)
    one_side = sum(out(g) != out(c) for g, c in pairs)
    assert examples["dropped"] == {"held-out-elsewhere": one_side}
    assert one_side > 0


def test_unequal_shares_of_a_lineage_are_warned_of_before_anything_runs(
    spec, write_spec, tmp_path, run_here, capsys
):
    """By `validate` and by `run`, once for every two stages; other lineages may hold out what they
    like."""
    more = {"model": "tuned", "holdout": 0.1}
    spec["stages"]["further"] = _tuned(tmp_path, "further", ROWS, **more)
    spec["stages"]["other"] = _tuned(tmp_path, "other", ROWS, holdout=0.2)
    told = list(unequal(load_spec(write_spec(spec)).spec))
    assert told == [
        "'further' holds out 0.1 of its records, and 'tuned', on which it depends, 0.3: of what "
        "both read, 'further' trains on some that 'tuned' holds out; give both the same `holdout`"
    ]
    with pytest.raises(SystemExit) as ended:
        main(["validate", str(write_spec(spec))])
    assert ended.value.code == 0
    assert capsys.readouterr().err == f"warning: {told[0]}\n"
    run = run_here(spec, only="corpus")
    events = [event["event"] for event in run.events()]
    assert events.index("warning") < events.index("stage_started")
    assert _warnings(run) == told


def test_a_corpus_that_holds_out_another_share_is_warned_of(spec, write_spec, tmp_path, texts):
    """Where the later stage holds out something, or reads texts as the corpus does."""
    spec["stages"]["corpus"]["prepare"]["holdout"] = 0.1

    def told():
        return list(unequal(load_spec(write_spec(spec)).spec))

    (warning,) = told()
    assert warning.startswith(
        "'tuned' holds out 0.3 of its records, and 'corpus', on which it depends"
    )
    assert "'corpus' trains on some that 'tuned' holds out" in warning
    spec["stages"]["tuned"] = _tuned(tmp_path, "tuned", ROWS, holdout=0.1)
    assert told() == []
    spec["stages"]["tuned"] = _tuned(tmp_path, "tuned", ROWS, holdout=0)
    assert told() == []
    source = {"type": "files", "paths": [f"{texts}/*.txt"]}
    spec["stages"]["tuned"]["train"] |= {"data": source, "objective": "next-token"}
    (warning,) = told()
    assert "'tuned' trains on some that 'corpus' holds out" in warning


@pytest.mark.parametrize("text", ["", "x", "[1]", "{}", '{"heeds": 7}', "[" * 100_000])
def test_a_damaged_card_heeds_nothing(text, tmp_path):
    """It may be another run's, which a model comes from; its own checksum is looked at later."""
    (tmp_path / "card.json").write_text(text, encoding="utf-8")
    assert _heeded(tmp_path / "card.json") == []


def test_samples_are_no_benchmark(tiny_spec, write_spec):
    """Their prompts have no answers: no search for them is asked for, beside a benchmark or alone."""
    train = tiny_spec["stages"]["base"]["train"]
    train["evaluate"] = [{"type": "samples", "prompts": ["The "]}]
    assert list(unsearched(load_spec(write_spec(tiny_spec)).spec)) == []
    train["evaluate"].append({"type": "gsm8k"})
    (told,) = unsearched(load_spec(write_spec(tiny_spec)).spec)
    assert told.startswith("'corpus' does not search its documents for items of gsm8k: ")
