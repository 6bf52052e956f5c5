"""Objective `cost`: Safe RLHF's loss, and values whose sign stays."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from engine_inference.language_model import SharedPrefixLM
from support.internals import Artifact

from engine.modeling import head, hidden_states
from engine.testing import check_component

UNKNOWN = {"chosen_safe": None, "rejected_safe": None}
LABELS = {True: -1.0, False: 1.0, None: 0.0}


def test_contract(bench):
    check_component("objective", {"type": "cost"}, bench.context)


def _costs(objective, model, batch) -> tuple[np.ndarray, np.ndarray]:
    with torch.no_grad():
        pair = objective._values(hidden_states(model, **batch.inputs), head(model), batch)
    chosen, rejected = (values.double().numpy() for values in pair)
    return chosen, rejected


def softplus(x: np.ndarray) -> np.ndarray:
    return np.logaddexp(0.0, x)


@pytest.mark.covers("objective/cost.safety")
@pytest.mark.parametrize("safety", [1.0, 0.5])
def test_loss_is_safe_rlhfs(bench, animals, safety):
    """In float64 by the paper: −log σ(C_w − C_l) − log σ(s_w·C_w) − log σ(s_l·C_l), where w is the more
    harmful answer and s is 1 for a harmful one, −1 for a safe one."""
    labels = [(True, False), (True, True), (False, False), (True, False), (False, True)]
    rows = [
        {**row, "chosen_safe": c, "rejected_safe": r}
        for row, (c, r) in zip(animals, labels, strict=False)
    ]
    objective, model = bench.objective("cost", safety=safety), bench.model(scalar=True)
    batch = objective.collate(bench.examples(objective, rows))
    chosen, rejected = _costs(objective, model, batch)
    s = np.array([[LABELS[c], LABELS[r]] for c, r in labels])
    expected = softplus(chosen - rejected)
    expected = expected + safety * softplus(-s[:, 1] * rejected)
    expected = expected + safety * softplus(-s[:, 0] * chosen)
    found = bench.sums(objective, model, [batch])
    assert found.loss.item() == pytest.approx(expected.mean(), rel=1e-5)
    right = np.mean((s * np.stack([chosen, rejected], 1)) > 0)
    assert found.means["metric/safety_accuracy"].item() == pytest.approx(right)


def test_the_gradient_is_the_equations(bench, animals, same):
    """By autograd from the equation as it stands, in torch, with every answer in a row of its own."""
    objective, model = bench.objective("cost"), bench.model(scalar=True)
    examples = bench.examples(objective, animals[:6])
    values = []
    for side in ("chosen", "rejected"):
        ids = [torch.tensor(e.fields[side].input_ids)[None] for e in examples]
        values.append(torch.cat([model.score(model.model(i)[0][:, -1])[0] for i in ids]))
    chosen, rejected = values
    log_sigmoid = torch.nn.functional.logsigmoid
    expected = -log_sigmoid(rejected - chosen) - log_sigmoid(rejected) - log_sigmoid(-chosen)
    named = dict(model.named_parameters())
    theirs = torch.autograd.grad(expected.mean(), list(named.values()))
    ours = bench.sums(objective, model, [objective.collate(examples)])
    same(ours, expected.mean(), dict(zip(named, theirs, strict=True)))


def test_answers_without_a_label_only_compare(bench, animals, same):
    """No safety term counts them: neither in the sum nor in the number that it is divided by."""
    objective, model = bench.objective("cost"), bench.model(scalar=True)
    known = bench.examples(objective, animals[:3])
    unknown = bench.examples(objective, [{**row, **UNKNOWN} for row in animals[3:6]])
    mixed = objective.collate([*known, *unknown])
    assert (mixed.counts["preference"], mixed.counts["safety"]) == (6, 6)
    both = bench.sums(objective, model, [mixed])
    apart = bench.sums(objective, model, [objective.collate(known), objective.collate(unknown)])
    same(apart, both.loss, both.gradient)
    only = bench.sums(objective, model, [objective.collate(unknown)])
    assert only.means["safety"].item() == 0
    assert bench.sums(objective, model, [objective.collate(known)]).means[
        "safety"
    ].item() == pytest.approx(both.means["safety"].item(), rel=1e-5)


def test_the_sign_tells_harmful_from_safe(stage, animals, run_here):
    """Also of values that are normalised: they are scaled to standard deviation 1, and not moved."""
    spec = stage(
        {"type": "cost"},
        animals,
        holdout=0.3,
        budget="60 steps",
        evaluate=[{"type": "preference-accuracy", "values": "cost"}],
    )
    run = run_here(spec)
    assert run.status == 0
    scores = {e["metric"]: e["value"] for e in run.events("score") if e["stage"] == "learned"}
    assert scores["accuracy"] >= 0.9
    assert scores["safety_accuracy"] >= 0.9
    final = run.folder / "learned" / "final"
    kept = json.loads((final / "config.json").read_text(encoding="utf-8"))
    assert kept["value_mean"] == 0.0
    artifact = Artifact(final)
    model = artifact.model()
    lm = SharedPrefixLM(model, artifact.tokenizer())
    pairs = [(row["prompt"], row[side]) for side in ("chosen", "rejected") for row in animals]
    scaled = np.array([value for value, _ in lm.scores(pairs)])
    assert np.std(scaled) == pytest.approx(1, abs=0.1)  # held-out ones are among them
    safe, harmful = np.split(scaled, 2)
    assert np.mean(safe < 0) > 0.9
    assert np.mean(harmful > 0) > 0.9
    steps = [e for e in run.events("step") if e["stage"] == "learned"]
    assert steps[-1]["loss"] == pytest.approx(
        steps[-1]["loss/preference"] + steps[-1]["loss/safety"]
    )
