"""An objective trains on a prepared corpus as on records, or is refused before anything runs."""

from __future__ import annotations

import pytest
from support.runs import steps
from support.weighted_objective import FAULT, weighted

from engine.errors import RunError, SpecError
from engine.spec.loading import load_spec


@pytest.fixture
def spec(tiny_spec, train):
    """The tiny spec, trained with the objective that weighs tokens."""
    tiny_spec["plugins"] = ["weighted"]
    train |= {"objective": "weighted", "evaluate": []}
    return tiny_spec


def test_its_own_fields_reach_it_from_records_and_from_a_prepared_corpus(
    spec, texts, run_here, install_here, finished_run
):
    """Every token counts twice, so the losses are those of the objective without weights."""
    install_here(weighted())
    records = {"data": {"type": "files", "paths": [f"{texts}/*.txt"]}, "model": "base"}
    base = spec["stages"]["base"]["train"]
    spec["stages"]["more"] = {"train": {**base, **records, "budget": "2 steps"}}
    run = run_here(spec)
    assert run.steps("loss", stage="base") == pytest.approx(steps(finished_run, "loss"), rel=1e-5)
    assert len(run.steps("loss", stage="more")) == 2


def test_one_that_cannot_is_refused_with_the_reason(spec, write_spec, install_here):
    """As the spec is loaded, with what to do; records are no fault."""
    install_here(weighted("", FAULT))
    with pytest.raises(SpecError) as told:
        load_spec(write_spec(spec))
    (problem,) = told.value.problems
    assert problem.endswith(
        "stages.base.train.data: 'weighted' cannot train on the prepared 'corpus': its weights come "
        "from records; let `data` be a source of records, or choose another objective"
    )


def test_one_that_cannot_and_does_not_say_so_is_named_before_the_first_step(
    spec, run_here, install_here, tmp_path
):
    """With its method and the missing field."""
    install_here(weighted(""))
    with pytest.raises(RunError, match=r"objective 'weighted' .* in collate: KeyError: 'weights'"):
        run_here(spec)
    assert not steps(tmp_path / "runs" / "tiny", "loss")


def test_it_may_refuse_the_tokenizer_of_a_prepared_corpus(spec, run_here, install_here):
    """As that of records."""
    check = """
    def check(self, tokenizer):
        from engine import SpecError
        raise SpecError("needs another tokenizer")
"""
    install_here(weighted(check))
    with pytest.raises(SpecError, match="needs another tokenizer"):
        run_here(spec)
