"""Elastic weight consolidation is the paper's, replay keeps its share, and both train."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path

import pytest
import torch
from engine import RunError, SpecError
from engine.testing import (
    StandAloneContext,
    check_component,
    check_plugin,
    check_readme,
    run_spec,
    tiny_model,
    train_tiny,
)

from engine_continual.elastic_weights import fisher

FOLDER = Path(__file__).parents[1]
SUMS = {"type": "arithmetic", "records": "text", "questions": 48, "digits": 1}
OTHERS = {"type": "arithmetic", "records": "text", "questions": 400, "operations": ["*"]}
EWC = {"type": "ewc", "old": SUMS, "sequences": 20}
REPLAY = {"type": "replay", "new": SUMS, "old": OTHERS, "share": 0.2}


def test_the_plugin_is_declared_as_the_engine_wants_it():
    """Light imports, described fields, valid defaults."""
    check_plugin("continual")


def test_the_readme_tells_of_every_field():
    """Its reference is what the engine would write."""
    check_readme(FOLDER / "README.md")


def test_the_penalty_keeps_its_contract():
    """Sums over parts of parameters, nothing changed at the start, exact resume."""
    check_component("penalty", EWC)


@pytest.mark.parametrize("share", [0.1, 0.75])
def test_the_source_keeps_its_contract(share):
    """The same records in the same order, with unique ids."""
    check_component("data-source", {**REPLAY, "share": share})


def test_f_is_that_of_a_loop_over_logits_in_float64():
    """Of all parameters of a small transformer, with a backward pass a sequence."""
    model = tiny_model(StandAloneContext())
    sequences = [[5, 9, 9, 40, 7], [1, 2, 3], [60, 8, 8, 8, 8, 8, 1]]
    found = fisher(model, sequences, torch.device("cpu"))
    exact = tiny_model(StandAloneContext()).double().eval()
    sums = {name: torch.zeros_like(p) for name, p in exact.named_parameters()}
    for sequence in sequences:
        exact.zero_grad()
        logits = exact(input_ids=torch.tensor([sequence[:-1]])).logits[0].log_softmax(-1)
        logits[range(len(sequence) - 1), sequence[1:]].sum().backward()
        for name, parameter in exact.named_parameters():
            sums[name] += parameter.grad**2
    assert found.keys() == sums.keys()
    for name, total in sums.items():
        torch.testing.assert_close(found[name].double(), total / 12, rtol=1e-3, atol=1e-7, msg=name)


def test_the_term_is_equation_3():
    """½ Σ F (w − w at the start)²; F is positive where the texts' tokens are."""
    penalty = StandAloneContext().build("penalty", EWC)
    model = tiny_model(StandAloneContext())
    assert penalty.start(model) == ()
    for name, weight in model.named_parameters():
        kept = penalty.keep(name, weight.detach())
        moved = weight.detach() + 0.5
        term = penalty.parameter_loss(name, moved, kept)
        torch.testing.assert_close(term, kept["fisher"].sum() / 8)
        assert bool((kept["fisher"] >= 0).all()) and bool((kept["fisher"] > 0).any())


def test_held_out_texts_and_other_texts_are_not_measured():
    """`holdout` leaves texts out, and a resumed stage refuses a source that has changed."""
    first, other = (_started({**EWC, "holdout": share}) for share in (0.0, 0.9))
    assert first.state() == _started(EWC).state() != other.state()
    other.load(other.state())
    with pytest.raises(RunError, match="`old` have changed"):
        other.load(first.state())


def test_old_records_stand_among_new_ones_at_even_distances():
    """Every fifth record is old, each comes once, and the new ones keep their order."""
    context = StandAloneContext()
    records = list(context.build("data-source", REPLAY).records(""))
    runs = [
        (kind, len(list(run))) for kind, run in groupby(r.id.partition("/")[0] for r in records)
    ]
    assert runs[:6] == [("new", 4), ("old", 1)] * 3
    plain = [f"new/{r.id}" for r in context.build("data-source", SUMS).records("")]
    assert [r.id for r in records if r.id.startswith("new/")] == plain


def test_the_seed_draws_the_old_records():
    """From the whole source, not from its beginning."""
    drawn = [_drawn(seed) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    numbers = [r.id for r in StandAloneContext().build("data-source", OTHERS).records("")]
    assert max(numbers.index(name) for name in drawn[0]) > 200


def test_too_few_old_records_are_an_error():
    """That says how many there are and how many it takes."""
    source = StandAloneContext().build("data-source", {**REPLAY, "share": 0.95})
    with pytest.raises(RunError, match=r"`old` has \d+ records, but a share of 0.95 .* needs \d+"):
        list(source.records(""))


@pytest.mark.parametrize(
    ("given", "where", "what"),
    [
        (
            {"old": {**OTHERS, "records": "prompt"}},
            "old",
            "gives prompt records, but `new` gives text",
        ),
        ({"old": {**OTHERS, "weight": 2}}, "old.weight", "has no effect in here"),
    ],
)
def test_sources_that_do_not_fit_are_refused(given, where, what, tmp_path):
    """Before anything runs, at their line."""
    with pytest.raises(SpecError, match=rf"{where}: .*{what}"):
        train_tiny(tmp_path, plugins=["continual"], data={**REPLAY, **given}, budget="1 steps")


def test_f_needs_texts(tmp_path):
    """A source of other records is refused before anything runs."""
    wrong = {**EWC, "old": {**SUMS, "records": "prompt"}}
    with pytest.raises(SpecError, match="gives prompt records, but F is measured on texts"):
        train_tiny(tmp_path, plugins=["continual"], penalties=[wrong])


def test_the_example_runs(tmp_path):
    """With arithmetic in place of the docstrings, in few steps: in each way another model."""
    source = "{type: arithmetic, records: text, operations: ['*']}"
    old = ("old.prepare.sources.0", "ewc.train.penalties.0.old", "replay.train.data.old")
    same = ("both.train.penalties.0.old", "both.train.data.old")
    tuned = ("naive", "ewc", "replay", "both")
    run = run_spec(
        FOLDER / "example.yaml",
        tmp_path,
        *(f"stages.{at}={source}" for at in (*old, *same)),
        *(f"stages.{stage}.train.budget=3 steps" for stage in ("base", *tuned)),
        *(f"stages.on-{data}.evaluate.evaluators.0.limit=4" for data in ("old", "new")),
    )
    for stage in ("on-old", "on-new"):
        scores = [e for e in run.events if e["event"] == "score" and e["stage"] == stage]
        values = {e["model"]: e["value"] for e in scores if e["metric"].endswith("perplexity")}
        assert values.keys() == {"base", *tuned}
        assert len(set(values.values())) == 5
    assert any(e.get("loss/penalty/ewc", 0) > 0 for e in run.events if e["event"] == "step")


def _started(settings, seed=0):
    context = StandAloneContext(seed=seed)
    penalty = context.build("penalty", settings)
    penalty.start(tiny_model(context))
    return penalty


def _drawn(seed):
    records = StandAloneContext(seed=seed).build("data-source", REPLAY).records("")
    return [r.id.removeprefix("old/") for r in records if r.id.startswith("old/")]
