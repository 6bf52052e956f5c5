"""The kit finds faults that change a run: those planted in ``support.faults``.

Two of each kind in the gate, all behind soak; each is a test of its own, so that a part can be run, and
a broken run goes on: ``pytest -m soak tests/engine/testing/test_faults.py -k strategy --last-failed``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.faults.fault import Fault, Maker, alike, result
from support.faults.plugin import FAULTS, PLANTED

from engine.testing import StandAloneContext, check_component

MISSED = frozenset(
    """
    adapter/begins-elsewhere adapter/drops-at-evaluation adapter/first-matrix-detached
    adapter/forgets-biases adapter/merges-without-biases adapter/seed-of-its-own
    callback/changes-events callback/forgets-a-counter callback/forgets-norms
    callback/forgets-scores callback/forgets-the-best callback/keeps-few-norms
    callback/shares-its-counter callback/shares-its-state callback/stops-at-random
    callback/stops-on-rank-zero callback/watches-the-clock
    corpus-step/keeps-the-least-hash corpus-step/replaces-texts corpus-step/summary-of-a-set
    corpus-step/summary-of-one-table
    data-source/bytes-for-text data-source/meta-with-a-date data-source/one-place-for-all-parts
    data-source/order-of-a-set data-source/reads-once data-source/shares-one-meta
    data-source/size-in-kilobytes data-source/version-of-now
    evaluator/asks-once evaluator/draws-examples evaluator/items-of-a-set evaluator/loss-for-gain
    evaluator/one-seed evaluator/reads-held-out-records evaluator/scores-all-otherwise
    evaluator/spread-for-error evaluator/square-of-the-error evaluator/sum-for-mean
    evaluator/takes-from-rows
    executor/calls-twice executor/errors-of-its-own executor/goes-on-after-an-error
    executor/in-this-process executor/loses-losses executor/raises-losses executor/remembers-tasks
    executor/results-as-json executor/stays-open
    inference/log-probability-when-sampled inference/remembers-prompts inference/samples-at-one
    model/counts-its-calls model/cuts-the-gradient model/dropout-at-evaluation
    model/frozen-embeddings model/half-precision model/half-the-context model/mixes-rows
    model/positions-begin-anew model/positions-from-one
    objective/changes-its-batch objective/counts-its-calls objective/counts-prompts
    objective/encodes-by-chance objective/labels-not-shifted objective/labels-twice-shifted
    objective/learns-prompts objective/length-with-the-end objective/loses-the-last-row
    objective/metric-with-a-gradient objective/positions-from-five objective/positions-go-on
    objective/shifts-in-the-loss objective/takes-the-weight-only objective/without-end
    optimizer/climbs optimizer/counts-outside-the-state optimizer/coupled-decay
    optimizer/decay-of-its-own optimizer/decays-vectors optimizer/means-outside-the-state
    optimizer/noisy-steps optimizer/one-rate-for-all
    penalty/measures-everything penalty/noisy penalty/weighs-itself
    processor/every-fifth processor/remembers-ids processor/says-it-keeps-texts
    processor/share-of-letters processor/stamps-documents processor/summary-of-numpy-numbers
    processor/summary-of-the-last-table processor/type-by-content processor/words-of-a-set
    reward/check-raises reward/grows-with-calls reward/keeps-the-graph reward/names-what-it-finds
    reward/remembers-prompts reward/texts-only reward/weighs-itself reward/whole-numbers
    schedule/budget-of-ten-thousand-steps schedule/counts-from-its-first-call
    schedule/divides-by-the-first-step schedule/tokens-for-any-unit
    strategy/averages-without-dividing strategy/divides-twice strategy/does-not-annotate
    strategy/does-not-clip strategy/exports-what-it-trains strategy/forgets-averages
    strategy/keeps-averages strategy/keeps-skipped-gradients strategy/learns-alone
    strategy/learns-stand-ins strategy/norm-before-the-sum strategy/one-rate-for-all
    strategy/one-share-for-all strategy/sums-after-each-micro-batch strategy/sums-of-its-own
    strategy/sums-of-the-last strategy/trains-frozen-weights
    tokenizer/cuts-long-texts tokenizer/declares-too-few tokenizer/ends-at-each-stop
    tokenizer/lower-case tokenizer/one-blank tokenizer/pads-batches tokenizer/vocabulary-of-a-set
    tokenizer/wants-a-list tokenizer/without-accents
    """.split()
)
"""Faults that the kit does not find."""
IN_THE_GATE = frozenset(
    """
    adapter/forgets-biases adapter/merges-without-scale
    callback/forgets-a-counter callback/numbers-for-names
    corpus-step/part-in-the-key corpus-step/summary-of-a-set
    data-source/halves-overlap data-source/shares-one-meta
    evaluator/counts-what-it-scored evaluator/draws-examples
    executor/calls-twice executor/leaves-out-the-last
    inference/log-probability-when-sampled inference/one-position-late
    model/cuts-the-gradient model/sees-the-next
    objective/labels-twice-shifted objective/mean-for-sum
    optimizer/coupled-decay optimizer/late-state
    penalty/learns-padding penalty/weighs-itself
    processor/sorts-the-batch processor/says-it-keeps-texts
    reward/centres-a-batch reward/remembers-prompts
    schedule/counts-from-its-first-call schedule/counts-its-calls
    strategy/averages-without-dividing strategy/exports-what-it-trains
    tokenizer/pads-batches tokenizer/without-end
    """.split()
)

STARTS_PROCESSES = frozenset({"strategy/averages-without-dividing"})
"""Faults whose effect takes six processes to show."""


@pytest.fixture(scope="module", autouse=True)
def _installed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Makes the faults components of an installed plugin."""
    site: Path = tmp_path_factory.mktemp("site")
    about = site / "engine_faults-1.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: engine-faults\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[engine.v1]\nfaults = support.faults.plugin\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(site)
        yield


def _faults(*seeds: int, gate: frozenset[str] = IN_THE_GATE) -> list[object]:
    return [
        pytest.param(
            fault,
            seed,
            id=f"{fault.name}-{seed}",
            marks=[] if fault.name in gate and seed == 0 else pytest.mark.soak,
        )
        for fault in FAULTS
        for seed in seeds
    ]


def test_there_are_many_of_each_kind():
    """At least ten of a kind, and 200 of all."""
    names = {fault.name for fault in FAULTS}
    assert len(names) == len(FAULTS) >= 200
    assert min(Counter(fault.kind for fault in FAULTS).values()) >= 10
    assert names >= IN_THE_GATE | MISSED
    assert {planted.kind for planted in PLANTED} == {fault.kind for fault in FAULTS}
    assert set(Counter(name.partition("/")[0] for name in IN_THE_GATE).values()) == {2}


@pytest.mark.parametrize(("fault", "seed"), _faults(0, gate=IN_THE_GATE - STARTS_PROCESSES))
def test_a_fault_changes_what_a_run_gives(fault: Fault, seed: int):
    """With the right component the result is the same each time, with the wrong one another."""
    right, wrong = Maker(fault.kind, fault.right), Maker(fault.kind, fault.type)
    expected = result(fault.shows, right)
    assert "Error: " not in str(expected)
    assert alike(expected, result(fault.shows, right))
    assert not alike(expected, result(fault.shows, wrong))


@pytest.mark.parametrize(
    ("kind", "right"),
    [(planted.kind, right) for planted in PLANTED for right in planted.right_ones],
)
def test_a_right_component_passes(kind: str, right: str):
    """There is no false alarm."""
    check_component(kind, {"type": right})


@pytest.mark.parametrize(("fault", "seed"), _faults(0, 1))
def test_the_kit_finds_a_fault_and_says_what_it_is(fault: Fault, seed: int):
    """One that it misses is listed, and taken off the list when it is found."""
    told = "nothing"
    try:
        check_component(fault.kind, {"type": fault.type}, StandAloneContext(seed=seed))
    except Exception as error:  # a wrong component may raise anything
        told = f"{type(error).__name__}: {error}"
    found = told.startswith("AssertionError") and bool(fault.told) and fault.told in told
    assert found == (fault.name not in MISSED), told
