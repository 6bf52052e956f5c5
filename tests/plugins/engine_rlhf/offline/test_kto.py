"""Objective `kto`: its loss is TRL's, and its divergence is of the whole global batch."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from engine.modeling import head
from engine.testing import check_component


@pytest.mark.parametrize("fields", [{}, {"reference": "other"}])
def test_contract(bench, fields):
    check_component("objective", {"type": "kto", **fields}, bench.context)


def _labelled(rows):
    """Good and bad answers of very unlike lengths in turns, each to a prompt of its own."""
    return [
        {
            "prompt": row["prompt"],
            "completion": (row["chosen"] if n % 3 else row["rejected"]) * (1 + n % 2),
            "label": n % 3 > 0,
        }
        for n, row in enumerate(rows)
    ]


@pytest.fixture
def trls(trl_rows, trainer):
    """TRL's loss of answers and its gradient; its divergence is over the batch that it is given."""
    from trl.trainer.kto_trainer import KTOTrainer

    def loss(examples, model, reference, **fields):
        inputs = trl_rows([e.fields["own"] for e in examples], shifted=True)
        other = trl_rows([e.fields["other"] for e in examples], shifted=True)
        inputs |= {f"KL_{name}": tensor for name, tensor in other.items()}
        inputs["label"] = torch.tensor([e.fields["good"] for e in examples])
        made = trainer(
            ref_model=reference,
            loss_type="kto",
            calculate_KL=True,
            precompute_ref_logps=False,
            use_liger_kernel=False,
            args=type("Arguments", (), {"gradient_checkpointing_kwargs": None}),
            **{"beta": 0.1, "desirable_weight": 1.0, "undesirable_weight": 1.0, **fields},
        )
        made._compute_kl_logps = lambda *a: KTOTrainer._compute_kl_logps(made, *a)
        found = KTOTrainer._compute_loss(made, model, inputs, False)
        named = dict(model.named_parameters())
        parts = torch.autograd.grad(found, list(named.values()))
        return found, dict(zip(named, parts, strict=True)), made._metrics["train"]["kl"][0]

    return loss


def _towards(model, other, share: float):
    """The model, moved a part of the way to another."""
    with torch.no_grad():
        for parameter, target in zip(model.parameters(), other.parameters(), strict=True):
            parameter.lerp_(target, share)
    return model


@pytest.mark.covers(
    "objective/kto.beta",
    "objective/kto.desirable_weight",
    "objective/kto.undesirable_weight",
    "objective/kto.reference",
)
@pytest.mark.parametrize(
    "fields",
    [{}, {"beta": 0.5}, {"desirable_weight": 2.0}, {"undesirable_weight": 3.0}],
    ids=str,
)
def test_loss_and_gradient_are_trls(bench, animals, same, trls, fields):
    """With a divergence above 0 in it, from the same mismatched answers."""
    objective = bench.objective("kto", reference="other", **fields)
    model = _towards(bench.model(), bench.model(seed=1), 0.8)
    examples = bench.examples(objective, _labelled(animals[:7]), "labelled")
    ours = bench.sums(objective, model, [objective.collate(examples)])
    loss, gradient, kl = trls(examples, model, bench.model(seed=1), **fields)
    same(ours, loss, gradient)
    assert ours.means["metric/kl"].item() == pytest.approx(kl, rel=1e-4, abs=1e-4)


def test_the_divergence_counts_and_has_no_gradient(bench, animals):
    """Of a policy that makes the mismatched answers likelier than the reference does it is above 0."""
    objective = bench.objective("kto", beta=0.5, reference="other")
    model = bench.model()
    examples = bench.examples(objective, _labelled(animals[:7]), "labelled")
    found = bench.sums(objective, model, [objective.collate(examples)])
    (batch,) = found.kept
    assert not batch.targets["kl"].requires_grad
    losses = []
    for kl in (0.0, 2.0):
        settled = objective.settle(batch, {"kl": kl})
        terms = objective.loss(_hidden(model, settled), head(model), settled)
        losses.append(terms["loss"].item())
    assert abs(losses[0] - losses[1]) > 0.1
    # What is below 0 can only be an error of the estimate.
    assert objective.settle(batch, {"kl": -3.0}).targets["kl"].item() == 0.0


def _hidden(model, batch):
    return model.model(**batch.inputs, use_cache=False).last_hidden_state


def test_packed_is_unpacked_and_accumulated_is_whole(bench, animals, same):
    """Its divergence is of the global batch: one at a time, answers cost what they do together."""
    objective = bench.objective("kto", reference="other")
    model = _towards(bench.model(), bench.model(seed=1), 0.8)
    examples = bench.examples(objective, _labelled(animals[:8]), "labelled")
    whole = objective.collate(examples)
    assert len(whole.inputs["input_ids"]) < 8
    packed = bench.sums(objective, model, [whole])
    alone = [objective.collate([example]) for example in examples]
    assert {len(batch.inputs["input_ids"]) for batch in alone} == {1}
    same(bench.sums(objective, model, alone), packed.loss, packed.gradient)
    parts = [objective.collate(examples[:3]), objective.collate(examples[3:])]
    same(bench.sums(objective, model, parts), packed.loss, packed.gradient)


def test_a_preference_is_a_good_and_a_bad_answer(bench, animals):
    """The same examples as of two judgements; neither is paired with the other's answer."""
    objective = bench.objective("kto")
    pairs = bench.examples(objective, animals[:4])
    judged = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in animals[:4]
        for side in ("chosen", "rejected")
    ]
    apart = bench.examples(objective, judged, "labelled")
    assert [e.fields["good"] for e in pairs] == [True, False] * 4
    for one, other in zip(pairs, apart, strict=True):
        for name in ("own", "other"):
            assert np.array_equal(one.fields[name].input_ids, other.fields[name].input_ids)
    decode = bench.context.tokenizer().decode
    texts = [decode(e.fields["other"].input_ids) for e in pairs]
    # The next prompt's chosen answer, after one's own prompt; the last ones come round to the first.
    assert texts[0] == texts[1] == animals[0]["prompt"] + animals[1]["chosen"]
    assert texts[6] == texts[7] == animals[3]["prompt"] + animals[0]["chosen"]
    alike = bench.examples(objective, [{**animals[0], "chosen": f" {n}"} for n in range(2)])
    assert [decode(e.fields["other"].input_ids)[-1] for e in alike[1:3]] == ["1", "s"]


def test_answers_stay_whole(bench):
    """An answer that is too long gives no example; a mismatched one keeps the prompt's end."""
    objective = bench.objective("kto")
    rows = [
        {"prompt": "a" * 60, "completion": "short", "label": True},
        {"prompt": "b", "completion": "l" * 55, "label": False},
    ]
    first, _ = bench.examples(objective, rows, "labelled")
    decode = bench.context.tokenizer().decode
    assert decode(first.fields["other"].input_ids) == "a" * 9 + "l" * 55
    assert first.truncated
    with pytest.raises(AssertionError):  # the fixture wants no reasons
        bench.examples(objective, [{**rows[1], "completion": "l" * 64}], "labelled")


def test_an_average_of_the_weights_is_not_what_is_measured(stage, animals, run_here):
    """The divergence is the learning model's own: with an average beside it the curve is the same."""
    rates = {"type": "adamw", "lr": 3e-2}
    curves = []
    for average in (None, 0.99):
        spec = stage({"type": "kto"}, animals, ema=average, optimizer=rates)
        spec["name"] = f"ema-{average}"
        steps = run_here(spec).events("step")
        curves.append([(e["loss"], e["kl"]) for e in steps if e["stage"] == "learned"])
    assert curves[0] == curves[1]
    assert max(kl for _, kl in curves[0]) > 0


@pytest.mark.parametrize("kind", ["preference", "labelled"])
def test_it_learns_what_is_good(stage, hh, animals, run_here, kind):
    """Loss 0.5 at the start, HH's records too; then good answers become likelier than bad ones."""
    judged = [
        {"prompt": row["prompt"], "completion": row[side], "label": side == "chosen"}
        for row in animals
        for side in ("chosen", "rejected")
    ]
    rows = animals if kind == "preference" else judged
    wide = {"examples": 50}  # the loss of eight is noise
    run = run_here(stage({"type": "kto", "beta": 0.5}, rows, budget="20 steps", batch=wide))
    steps = [e for e in run.events("step") if e["stage"] == "learned"]
    assert steps[0]["loss"] == pytest.approx(0.5, abs=1e-4)
    assert steps[0]["kl"] == pytest.approx(0, abs=1e-4)
    assert max(step["loss"] for step in steps[-10:]) < 0.35
    assert max(step["kl"] for step in steps) > 0


def test_hh(stage, hh, run_here):
    """Pairs of HH, each a good and a bad answer."""
    run = run_here(stage({"type": "kto"}, hh(40), holdout=0.1, budget="3 steps"))
    assert run.status == 0
    losses = [e["loss"] for e in run.events("step") if e["stage"] == "learned"]
    assert losses[0] == pytest.approx(0.5, abs=1e-4)
    assert all(math.isfinite(loss) for loss in losses)
