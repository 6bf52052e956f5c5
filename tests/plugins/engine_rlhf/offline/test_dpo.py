"""Objective `dpo`: its losses are TRL's, it starts at ln 2, and ends at the bandit's best policy."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
import torch
from engine_inference.language_model import SharedPrefixLM
from support.internals import Artifact

from engine import record_from_row
from engine.testing import check_component

LOSSES = ["sigmoid", "ipo", "sigmoid-norm"]


@pytest.mark.parametrize("fields", [*({"loss": loss} for loss in LOSSES), {"reference": "other"}])
def test_contract(bench, fields):
    check_component("objective", {"type": "dpo", **fields}, bench.context)


def _unlike(rows):
    """With answers of very unlike lengths."""
    return [{**row, "chosen": row["chosen"] * (1 + n % 3)} for n, row in enumerate(rows)]


@pytest.fixture
def trls(bench, trl_rows, trainer):
    """TRL's loss of pairs and its gradient."""
    from trl.trainer.dpo_trainer import DPOTrainer

    def loss(examples, model, reference, loss_type: str, beta: float):
        inputs = trl_rows(
            [e.fields[side] for side in ("chosen", "rejected") for e in examples], shifted=True
        )
        made = trainer(
            ref_model=reference,
            beta=beta,
            loss_types=[loss_type.replace("-", "_")],
            loss_weights=[1.0],
            ld_alpha=None,
            precompute_ref_logps=False,
            f_divergence_type="reverse_kl",
            use_weighting=False,
            args=type("Arguments", (), {"gradient_checkpointing_kwargs": None}),
        )
        found = DPOTrainer._compute_loss(made, model, inputs, False)
        named = dict(model.named_parameters())
        parts = torch.autograd.grad(found, list(named.values()))
        return found, dict(zip(named, parts, strict=True))

    return loss


@pytest.mark.covers("objective/dpo.loss", "objective/dpo.beta", "objective/dpo.reference")
@pytest.mark.parametrize("loss_type", LOSSES)
@pytest.mark.parametrize("beta", [0.1, 0.7])
def test_loss_and_gradient_are_trls(bench, animals, same, trls, loss_type, beta):
    """Against another stage's model, with answers of unlike lengths."""
    objective = bench.objective("dpo", loss=loss_type, beta=beta, reference="other")
    model = bench.model()
    examples = bench.examples(objective, _unlike(animals[:6]))
    ours = bench.sums(objective, model, [objective.collate(examples)])
    same(ours, *trls(examples, model, bench.model(seed=1), loss_type, beta))
    assert ours.loss.item() != pytest.approx(math.log(2), rel=1e-3)


@pytest.mark.covers("objective/dpo.label_smoothing")
@pytest.mark.parametrize("loss_type", ["sigmoid", "sigmoid-norm"])
def test_smoothed_it_takes_some_pairs_for_wrong(bench, animals, same, trls, loss_type):
    """0.8 of TRL's loss of the pairs and 0.2 of its loss of the pairs turned round."""
    objective = bench.objective("dpo", loss=loss_type, label_smoothing=0.2, reference="other")
    model, reference = bench.model(), bench.model(seed=1)
    rows = _unlike(animals[:6])
    turned = [{**row, "chosen": row["rejected"], "rejected": row["chosen"]} for row in rows]
    examples, wrong = bench.examples(objective, rows), bench.examples(objective, turned)
    right_loss, right = trls(examples, model, reference, loss_type, 0.1)
    wrong_loss, opposite = trls(wrong, model, reference, loss_type, 0.1)
    ours = bench.sums(objective, model, [objective.collate(examples)])
    mixed = {name: 0.8 * right[name] + 0.2 * opposite[name] for name in right}
    same(ours, 0.8 * right_loss + 0.2 * wrong_loss, mixed)


def test_both_answers_have_the_same_prompt(bench):
    """As much of its end as fits before the longer answer; one that is too long gives no example."""
    objective, tokenizer = bench.objective("dpo"), bench.context.tokenizer()
    row = {"prompt": "p" * 70 + "end", "chosen": "yes", "rejected": "n" * 20}
    (example,) = bench.examples(objective, [row])
    decoded = [tokenizer.decode(example.fields[s].input_ids) for s in ("chosen", "rejected")]
    assert decoded == ["p" * 41 + "endyes", "p" * 41 + "end" + "n" * 20]
    assert example.truncated
    record = record_from_row("preference", {**row, "rejected": "n" * 64}, id="0", source="test")
    reasons = list(objective.encode(record, tokenizer, bench.length))
    assert reasons == ["with an answer that leaves its prompt no room in a row"]


def test_ipo_has_no_smoothing(bench):
    with pytest.raises(ValueError, match="label_smoothing has no effect on ipo"):
        bench.objective("dpo", loss="ipo", label_smoothing=0.1)


@pytest.mark.parametrize("loss_type", LOSSES)
def test_packed_is_unpacked_and_accumulated_is_whole(bench, animals, same, loss_type):
    """Answers of unlike lengths share rows; alone in theirs they cost the same, to 1e-5."""
    objective = bench.objective("dpo", loss=loss_type, reference="other")
    model = bench.model()
    examples = bench.examples(objective, _unlike(animals[:7]))
    whole = objective.collate(examples)
    assert len(whole.inputs["input_ids"]) < 14
    packed = bench.sums(objective, model, [whole])
    alone = [objective.collate([example]) for example in examples]
    assert {len(batch.inputs["input_ids"]) for batch in alone} == {2}
    same(bench.sums(objective, model, alone), packed.loss, packed.gradient)
    parts = [objective.collate(examples[:2]), objective.collate(examples[2:])]
    same(bench.sums(objective, model, parts), packed.loss, packed.gradient)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_it_starts_at_ln_2(stage, hh, run_here, precision):
    """HH: the reference rounds as the policy does; then the loss moves."""
    spec = stage({"type": "dpo"}, hh(60), precision=precision, budget="3 steps")
    run = run_here(spec)
    assert run.status == 0
    steps = [e for e in run.events("step") if e["stage"] == "learned"]
    assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert steps[0]["margin"] == pytest.approx(0, abs=1e-5)
    assert steps[2]["loss"] != pytest.approx(math.log(2), abs=1e-4)


def test_with_an_adapter_it_starts_at_ln_2(stage, animals, run_here):
    """LoRA adds nothing at first, and the reference stays so."""
    adapted = {"type": "stage", "stage": "base", "adapter": {"type": "lora", "r": 4}}
    run = run_here(stage({"type": "dpo", "beta": 0.5}, animals, model=adapted, budget="12 steps"))
    assert run.status == 0
    losses = [e["loss"] for e in run.events("step") if e["stage"] == "learned"]
    assert losses[0] == pytest.approx(math.log(2), abs=1e-6)
    assert losses[-1] < 0.6


def test_against_another_stage_it_starts_elsewhere(stage, animals, run_here):
    """`reference` names the stage whose model is the reference."""
    spec = stage({"type": "dpo", "reference": "other"}, animals, budget="1 steps")
    base = spec["stages"]["base"]["train"]
    spec["stages"]["other"] = {"train": {**base, "model": {**base["model"], "init_std": 0.3}}}
    run = run_here(spec)
    assert run.status == 0
    (step,) = [e for e in run.events("step") if e["stage"] == "learned"]
    assert step["loss"] != pytest.approx(math.log(2), abs=1e-3)


def test_it_learns_what_is_preferred(stage, animals, run_here):
    """The margin grows and all pairs are told apart."""
    run = run_here(stage({"type": "dpo", "beta": 0.5}, animals, budget="20 steps"))
    steps = [e for e in run.events("step") if e["stage"] == "learned"]
    assert steps[-1]["accuracy"] == 1
    assert steps[-1]["loss"] < 0.3


def test_its_optimum_is_the_bandits(stage, run_here):
    """Preferences just as often as Bradley and Terry's model of r has them: the policy becomes
    π_ref·exp(r/β)/Z, to a total variation below 0.01."""
    beta, prompt = 0.5, "q7"
    rewards = {"x": 0.0, "z": math.log(2), "j": math.log(4)}
    rows = []
    for a, b in combinations(rewards, 2):
        # 2/3 and 4/5: of 15 pairs, 10 and 12.
        wins = round(15 / (1 + math.exp(rewards[a] - rewards[b])))
        rows += [{"prompt": prompt, "chosen": b, "rejected": a}] * wins
        rows += [{"prompt": prompt, "chosen": a, "rejected": b}] * (15 - wins)
    spec = stage(
        {"type": "dpo", "beta": beta},
        rows,
        batch={"examples": len(rows)},
        budget="250 steps",
        optimizer={"type": "adamw", "lr": 3e-3, "weight_decay": 0, "schedule": "warmup-cosine"},
    )
    spec["stages"]["base"]["train"]["model"]["init_std"] = 0.1
    run = run_here(spec)
    assert run.status == 0
    before, after = (_policy(run.folder / stage, prompt, rewards) for stage in ("base", "learned"))
    best = before * torch.tensor([math.exp(r / beta) for r in rewards.values()])
    best /= best.sum()
    print(before, best, after)
    assert (before - best).abs().sum() / 2 > 0.2
    assert (after - best).abs().sum() / 2 < 0.01


def _policy(folder, prompt, answers) -> torch.Tensor:
    artifact = Artifact(folder / "final")
    tokenizer = artifact.tokenizer()
    ids = tokenizer.encode(prompt, add_special_tokens=False)
    assert len(ids) == 2
    asked = [(ids, [*tokenizer.encode(a, add_special_tokens=False), 0]) for a in answers]
    found = SharedPrefixLM(artifact.model(), tokenizer).logprobs(asked)
    return torch.stack([tokens.sum() for tokens, _ in found]).double().softmax(0)


def test_hub_shapes_of_a_question_and_two_answers_are_learnt_alike(
    tiny_spec, add_stage, animals, run_here, tmp_path
):
    """TRL's conversational rows, with the prompt apart or in both sides, and HH's dialogues: without a
    chat template as the plain texts, with the same losses."""

    def said(role, text):
        return [{"role": role, "content": text.strip()}]

    def apart(row):
        answers = {side: said("assistant", row[side]) for side in ("chosen", "rejected")}
        return {"prompt": said("user", row["prompt"]), **answers}

    def whole(row):
        parts = apart(row)
        sides = {side: [*parts["prompt"], *parts[side]] for side in ("chosen", "rejected")}
        return {"prompt": row["prompt"], **sides}

    def dialogue(row):
        asked = f"\n\nHuman: {row['prompt']}\n\nAssistant: "
        return {side: asked + row[side].strip() for side in ("chosen", "rejected")}

    def plain(row):
        return {name: row[name].strip() for name in ("prompt", "chosen", "rejected")}

    for shape in (plain, apart, whole, dialogue):
        (tmp_path / shape.__name__).mkdir()
        rows, budget = [shape(row) for row in animals], "2 steps"
        add_stage(tiny_spec, tmp_path / shape.__name__, {"type": "dpo"}, rows, budget=budget)
        tiny_spec["stages"][shape.__name__] = tiny_spec["stages"].pop("learned")
    steps = run_here(tiny_spec).events("step")
    losses = [
        [event["loss"] for event in steps if event["stage"] == shape.__name__]
        for shape in (plain, apart, whole, dialogue)
    ]
    assert losses[0][0] == pytest.approx(math.log(2))
    assert losses[0][1] < losses[0][0]
    assert losses == losses[:1] * 4
