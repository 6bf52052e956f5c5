"""Laws give the published optima and the published worth of repeated data."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from engine import FittedLaw, ScalingLaw, SpecError, effective_tokens

HOFFMANN = ScalingLaw(E=1.69, A=406.4, alpha=0.34, B=410.7, beta=0.28)
REFITTED = ScalingLaw(E=1.8172, A=482.01, alpha=0.34781, B=2085.43, beta=0.36585)
"""Hoffmann et al. 2022, and Besiroglu et al. 2024 ("Chinchilla Scaling: A replication attempt")."""


@pytest.mark.parametrize(
    ("law", "parameters", "tokens"), [(HOFFMANN, 32.2e9, 2.98e12), (REFITTED, 72.4e9, 1.33e12)]
)
def test_published_optima(law, parameters, tokens):
    """At 5.76e23 FLOPs; any other size for the same FLOPs has a higher loss."""
    found = law.optimum(5.76e23)
    assert found == pytest.approx((parameters, tokens), rel=4e-3)  # they have three digits
    best = law.loss(*found)
    for factor in (0.9, 1.1):
        assert law.loss(found[0] * factor, found[1] / factor) > best


def test_the_share_of_parameters():
    """Exponents of 0.076 and 0.095 make parameters grow with the power 0.556 of FLOPs."""
    law = ScalingLaw(0, 1, 0.076, 1, 0.095)
    growth = law.optimum(1e22)[0] / law.optimum(1e21)[0]
    assert growth == pytest.approx(10**0.5556, rel=1e-3)


@pytest.mark.parametrize(("epochs", "worth"), [(1, 1), (4, 3.73), (16, 10.58), (40, 15.17)])
def test_repeated_data(epochs, worth):
    """Is worth less with each epoch, and nothing changes within the first."""
    assert effective_tokens(1e9, epochs * 1e9) / 1e9 == pytest.approx(worth, abs=5e-3)
    assert effective_tokens(1e9, 2e8) == 2e8


def test_a_law_s_file(tmp_path):
    """Is read as it was written, and predicts with an interval that spans draws and noise."""
    other = ScalingLaw(1.7, 400.0, 0.34, 410.0, 0.28, "body")
    law = FittedLaw(HOFFMANN, (HOFFMANN, other), 0.01, "nats per token", (1e18, 1e20), "a", "b")
    file = tmp_path / "law.json"
    file.write_text(law.text(), encoding="utf-8")
    assert FittedLaw.read(file) == law
    found = law.predict(1e9, 9e8, 2e10)
    assert found.loss == pytest.approx(HOFFMANN.loss(1e9, 2e10))
    assert found.high - found.loss >= 1.96 * 0.01 * found.loss * 0.999
    assert found.high >= other.loss(9e8, 2e10)


def test_an_interval_spans_those_of_the_variants(tmp_path):
    """From the lowest end to the highest, however few draws one variant has; without groups all draws
    are one variant's."""
    near = [replace(HOFFMANN, E=1.69 + i / 1e4) for i in range(99)]
    far = replace(HOFFMANN, E=2.0)
    fields = (HOFFMANN, (*near, far), 0.0, "nats per token", (1e18, 1e20))
    grouped = FittedLaw(*fields, groups=(99, 1))
    assert grouped.predict(1e9, 9e8, 2e10).high == pytest.approx(far.loss(1e9, 2e10))
    assert FittedLaw(*fields).predict(1e9, 9e8, 2e10).high < near[-1].loss(1e9, 2e10) + 1e-4
    (tmp_path / "law.json").write_text(grouped.text(), encoding="utf-8")
    assert FittedLaw.read(tmp_path / "law.json") == grouped
    (tmp_path / "law.json").write_text(replace(grouped, groups=(9, 1)).text(), encoding="utf-8")
    with pytest.raises(SpecError, match="groups are not those of its draws"):
        FittedLaw.read(tmp_path / "law.json")


def test_each_draw_counts_repeated_data_by_its_own_r(tmp_path):
    """The best law by the one that was fitted. A file without the draws' values is read, and all have
    that one."""
    law = FittedLaw(HOFFMANN, (HOFFMANN,) * 2, 0.0, "m", (1e18, 1e20), repeats=10.0)
    apart = replace(law, drawn_repeats=(5.0, 20.0))
    low, best, high = (
        HOFFMANN.loss(1e9, effective_tokens(1e9, 4e10, r)) for r in (20.0, 10.0, 5.0)
    )
    found = apart.predict(1e9, 9e8, 4e10, lambda r: effective_tokens(1e9, 4e10, r))
    assert found.loss == pytest.approx(best)
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.06 * (high - low))
    same = law.predict(1e9, 9e8, 4e10, lambda r: effective_tokens(1e9, 4e10, r))
    assert same.low == pytest.approx(best)
    assert same.high == pytest.approx(best)
    fresh = apart.predict(1e9, 9e8, 4e10)
    assert fresh.low == fresh.high == pytest.approx(HOFFMANN.loss(1e9, 4e10))
    file = tmp_path / "law.json"
    file.write_text(apart.text(), encoding="utf-8")
    assert FittedLaw.read(file) == apart
    data = json.loads(apart.text())
    del data["drawn_repeats"]
    file.write_text(json.dumps(data), encoding="utf-8")
    assert FittedLaw.read(file) == law


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"noise": float("nan")}, "noise or R"),
        ({"noise": -1.0}, "noise or R"),
        ({"repeats": 0.0}, "noise or R"),
        ({"drawn_repeats": (0.0,)}, "noise or R"),
        ({"drawn_repeats": (9.0, 9.0)}, "values of R. are not those of its draws"),
        ({"flops": (1e19, 0.0)}, "FLOPs are no range"),
        ({"best": ScalingLaw(1.7, 400.0, -0.3, 410.0, 0.28)}, "does not fall"),
        ({"best": ScalingLaw(1.7, 0.0, 0.3, 410.0, 0.28)}, "does not fall"),
    ],
)
def test_a_law_that_was_changed_by_hand(tmp_path, changed, why):
    """Is refused where it would predict nonsense."""
    fields = {"best": HOFFMANN, "draws": (HOFFMANN,), "noise": 0.01, "metric": "m"}
    law = FittedLaw(**{**fields, "flops": (1e18, 1e20), **changed})
    file = tmp_path / "law.json"
    file.write_text(law.text(), encoding="utf-8")
    with pytest.raises(SpecError, match=why):
        FittedLaw.read(file)


@pytest.mark.parametrize(
    "text", ["", "{}", "[]", '{"law": 2}', '{"law": 1, "best": {"E": "x"}}', '{"law": 1, "a": 1}']
)
def test_what_is_no_law(tmp_path, text):
    """Is refused with the file's name."""
    file = tmp_path / "law.json"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(SpecError, match="is no law"):
        FittedLaw.read(file)
