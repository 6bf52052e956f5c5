"""Objective `reward`: Bradley and Terry's loss, a head of one row, values that are normalised."""

from __future__ import annotations

import copy
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from engine_inference.language_model import SharedPrefixLM
from engine_rlhf.offline.reward_model import RewardObjective
from engine_tools.rows import show_rows
from safetensors.torch import load_file, save_file
from support.internals import Artifact, is_held_out
from torch import nn

from engine import RunError, record_from_row
from engine.modeling import head, hidden_states
from engine.testing import check_component


@pytest.mark.parametrize("fields", [{}, {"center": 0.1}])
def test_contract(bench, fields):
    check_component("objective", {"type": "reward", **fields}, bench.context)


def test_the_loss_is_softplus_of_minus_the_difference(bench, animals):
    """Of the values at the last tokens, EOS; ln 2 for a head of zeros."""
    objective, model = bench.objective("reward"), bench.model(scalar=True)
    examples = bench.examples(objective, animals[:5])
    batch = objective.collate(examples)
    values = SharedPrefixLM(model, bench.context.tokenizer()).scores(
        [(row["prompt"], row[side]) for side in ("chosen", "rejected") for row in animals[:5]]
    )
    chosen, rejected = torch.tensor([value for value, _ in values], dtype=torch.float64).chunk(2)
    expected = nn.functional.softplus(rejected - chosen)
    found = bench.sums(objective, model, [batch])
    assert found.loss.item() == pytest.approx(expected.mean().item(), rel=1e-5)
    right, margin = (chosen > rejected).double().mean(), (chosen - rejected).mean()
    assert found.means["metric/accuracy"].item() == pytest.approx(right.item())
    assert found.means["metric/margin"].item() == pytest.approx(margin.item(), rel=1e-4)
    nn.init.zeros_(model.score.weight)
    assert bench.sums(objective, model, [batch]).loss.item() == pytest.approx(np.log(2), rel=1e-6)


@pytest.mark.covers("objective/reward.center", "objective/reward.margin")
@pytest.mark.parametrize("center", [0.0, 0.3])
@pytest.mark.parametrize("margin", [None, "lead"])
def test_loss_and_gradient_are_trls(bench, animals, same, trl_rows, trainer, center, margin):
    from trl.trainer.reward_trainer import RewardTrainer

    rows = [{**row, "lead": n / 4} for n, row in enumerate(animals[:6])]
    objective = bench.objective("reward", center=center, margin=margin)
    model = bench.model(scalar=True)
    examples = bench.examples(objective, rows)
    ours = bench.sums(objective, model, [objective.collate(examples)])
    inputs = trl_rows(
        [e.fields[side] for side in ("chosen", "rejected") for e in examples], shifted=False
    )
    del inputs["completion_mask"]
    if margin:
        inputs["margin"] = torch.tensor([row["lead"] for row in rows])
    arguments = SimpleNamespace(center_rewards_coefficient=center or None)
    loss = RewardTrainer.compute_loss(trainer(args=arguments), model, inputs)
    from_loss = torch.autograd.grad(loss, [p for _, p in model.named_parameters()])
    names = [n for n, _ in model.named_parameters()]
    same(ours, loss, dict(zip(names, from_loss, strict=True)))


def test_packed_is_unpacked_and_accumulated_is_whole(bench, animals, same):
    """Answers of unlike lengths share rows; alone in theirs they cost the same, to 1e-5."""
    objective, model = bench.objective("reward", center=0.1), bench.model(scalar=True)
    rows = [{**row, "chosen": row["chosen"] * (1 + n % 3)} for n, row in enumerate(animals[:7])]
    examples = bench.examples(objective, rows)
    whole = objective.collate(examples)
    assert len(whole.inputs["input_ids"]) < 14
    packed = bench.sums(objective, model, [whole])
    alone = [objective.collate([example]) for example in examples]
    assert {len(batch.inputs["input_ids"]) for batch in alone} == {2}
    same(bench.sums(objective, model, alone), packed.loss, packed.gradient)


def test_any_answer_has_a_value(bench):
    """Also with characters by which records are refused: a run does not end by what a model wrote."""
    model = bench.model(scalar=True)
    tokenizer = copy.deepcopy(bench.context.tokenizer())
    tokenizer.chat_template = "{% for m in messages %}{{ m.content + eos_token }}{% endfor %}"
    pairs = [("Two?", f"a{mark}") for mark in ("\U000f0000", "\U00100000", "\ufffd")]
    *private, replaced = [value for value, _ in SharedPrefixLM(model, tokenizer).scores(pairs)]
    assert private == pytest.approx([replaced, replaced], rel=1e-5)


def test_answers_stay_whole(bench):
    """Of a prompt that is too long the end is kept; an answer that is too long gives no example."""
    objective = bench.objective("reward", margin="lead")
    tokenizer = bench.context.tokenizer()
    row = {"prompt": "p" * 70 + "end", "chosen": "yes", "rejected": "no", "lead": 1}
    (example,) = bench.examples(objective, [row])
    decoded = [tokenizer.decode(example.fields[s].input_ids[:-1]) for s in ("chosen", "rejected")]
    # As much as fits before each, which is what the finished model is scored with.
    assert decoded == ["p" * 57 + "endyes", "p" * 58 + "endno"]
    assert example.truncated
    records = [
        ({**row, "chosen": "y" * 64}, "with an answer that leaves its prompt no room in a row"),
        ({**row, "lead": None}, "without a number as 'lead'"),
        ({**row, "lead": True}, "without a number as 'lead'"),
    ]
    for wrong, reason in records:
        record = record_from_row("preference", wrong, id="0", source="test")
        assert list(objective.encode(record, tokenizer, bench.length)) == [reason]


@pytest.fixture(scope="module")
def _trained() -> dict:
    return {}


@pytest.fixture
def trained(_trained, stage, hh, run_here, tmp_path):
    """A reward model of HH's first records, trained once."""
    spec = stage(
        {"type": "reward"},
        hh(120),
        holdout=0.2,
        budget="6 steps",
        evaluate=[{"type": "preference-accuracy"}],
    )
    if not _trained:
        run = run_here(spec)
        assert run.status == 0
        kept = shutil.copytree(run.folder, tmp_path.parent / "reward-run")
        _trained |= {"run": run, "events": run.events("score"), "folder": kept}
    return SimpleNamespace(spec=spec, **_trained)


def test_values_are_normalised_on_reference_outputs(trained, hh):
    """HH: the chosen answers that it was trained on have mean 0 and standard deviation 1; the numbers
    are in config.json."""
    final = trained.folder / "learned" / "final"
    kept = json.loads((final / "config.json").read_text(encoding="utf-8"))
    assert kept["architectures"] == ["LlamaForSequenceClassification"]
    assert kept["value_std"] > 0
    artifact = Artifact(final)
    lm = SharedPrefixLM(artifact.model(), artifact.tokenizer())
    objective = RewardObjective(SimpleNamespace(margin=None, center=0.0))
    pairs = []
    for number, row in enumerate(hh(120)):
        record = record_from_row("preference", row, id=str(number), source="hh")
        (example,) = objective.encode(record, lm.tokenizer, 256)
        if not isinstance(example, str) and not is_held_out(record, 0.2, 5):
            pairs.append((row["prompt"], row["chosen"]))
    assert len(pairs) > 40
    values = np.array([value for value, _ in lm.scores(pairs)])
    assert values.mean() == pytest.approx(0, abs=1e-4)
    assert values.std() == pytest.approx(1, abs=1e-4)


def test_both_answers_are_shown(trained, hh, capsys):
    """By `engine data`: each in a row, under the number of their pair."""
    show_rows(trained.folder / "learned", 2, 0, as_json=True)
    shown = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [row["row"] for row in shown] == [0, 0, 1, 1]
    for number in (0, 1):
        texts = "".join(row["text"] for row in shown if row["row"] == number)
        assert any(row["chosen"] in texts and row["rejected"] in texts for row in hh(120))


def test_held_out_accuracy_and_calibration_are_reported(trained):
    """HH: three figures with the number of pairs, each as likely as it should be."""
    found = {event["metric"]: event for event in trained.events if event["stage"] == "learned"}
    assert set(found) == {"accuracy", "calibration_error", "nll"}
    assert {event["n"] for event in found.values()} == {found["accuracy"]["n"]}
    assert found["accuracy"]["n"] > 10
    assert 0 < found["accuracy"]["stderr"] < 0.5
    assert 0.2 < found["nll"]["value"] < 2


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("missing", "lacks weights that its config.json asks for: score.weight"),
        ("not finite", "weights that are not finite"),
        ("two labels", "has 2 labels"),
        ("no spread", "value_std is 0"),
    ],
)
def test_a_broken_head_is_an_error(trained, tmp_path, broken, message):
    """Said with the folder, when the model is opened."""
    folder = shutil.copytree(trained.folder / "learned" / "final", tmp_path / "final")
    (folder / "manifest.json").unlink()  # else it is the checksums that are wrong
    weights = load_file(folder / "model.safetensors")
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    if broken == "missing":
        del weights["score.weight"]
    elif broken == "not finite":
        weights["score.weight"][0, 3] = torch.nan
    elif broken == "two labels":
        config |= {"id2label": {"0": "a", "1": "b"}, "label2id": {"a": 0, "b": 1}}
    else:
        config["value_std"] = 0.0
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(RunError, match=message):
        Artifact(folder).model()


def test_it_learns_what_is_preferred(stage, animals, run_here):
    """Cats before dogs, for places and moods that it has not seen: nine in ten, and surer each step."""
    spec = stage(
        {"type": "reward"},
        animals,
        holdout=0.3,
        budget="24 steps",
        evaluate=[{"type": "preference-accuracy"}],
    )
    run = run_here(spec)
    assert run.status == 0
    scores = {e["metric"]: e["value"] for e in run.events("score") if e["stage"] == "learned"}
    assert scores["accuracy"] >= 0.9
    assert scores["nll"] < 0.5
    steps = [e for e in run.events("step") if e["stage"] == "learned"]
    assert steps[0]["loss"] == pytest.approx(np.log(2), abs=0.3)
    assert steps[-1]["accuracy"] == 1
    assert steps[-1]["margin"] > steps[0]["margin"]


def test_with_an_adapter(stage, animals, run_here):
    """LoRA beside the new head: both learn, and what is saved is a plain model."""
    adapted = {"type": "stage", "stage": "base", "adapter": {"type": "lora", "r": 4}}
    run = run_here(stage({"type": "reward"}, animals, model=adapted, budget="8 steps"))
    assert run.status == 0
    model = Artifact(run.folder / "learned" / "final").model()
    base = Artifact(run.folder / "base" / "final").model()
    assert {n for n, _ in model.named_parameters() if "lora" in n} == set()
    moved = [
        name
        for name, weight in model.model.named_parameters()
        if not torch.equal(weight, base.model.get_parameter(name))
    ]
    assert moved
    assert all("proj" in name for name in moved)


def test_the_head_reads_the_last_token(bench, animals):
    """Its row times the hidden state there, as transformers has it."""
    objective, model = bench.objective("reward"), bench.model(scalar=True)
    (example,) = bench.examples(objective, animals[:1])
    batch = objective.collate([example])
    hidden_BTD = hidden_states(model, **batch.inputs)
    chosen, _ = objective._values(hidden_BTD, head(model), batch)
    ids = torch.tensor(example.fields["chosen"].input_ids)[None]
    theirs = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, 0]
    torch.testing.assert_close(chosen[0], theirs, rtol=1e-5, atol=1e-6)
