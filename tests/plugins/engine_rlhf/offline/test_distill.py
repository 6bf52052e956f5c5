"""Objective `distill`: the divergences are TRL's, never all logits at once, and the student follows."""

from __future__ import annotations

import pytest
import torch
from engine_rlhf.offline import divergence as module
from engine_rlhf.offline.divergence import divergence
from support.internals import Artifact

from engine import SpecError, load_spec
from engine.modeling import LogitMap
from engine.testing import check_component

DIVERGENCES = [
    {"divergence": "forward"},
    {"divergence": "reverse"},
    {"divergence": "generalised"},
    {"divergence": "generalised", "beta": 0.2},
]


@pytest.mark.parametrize("fields", DIVERGENCES, ids=str)
def test_contract(bench, fields):
    check_component("objective", {"type": "distill", "teacher": "other", **fields}, bench.context)


@pytest.fixture(scope="module")
def jsd():
    """TRL's divergence of logits."""
    import os

    os.environ["TRL_EXPERIMENTAL_SILENCE"] = "1"
    from trl.experimental.gkd.gkd_trainer import GKDTrainer

    return GKDTrainer.generalized_jsd_loss


def _tensors(positions=40, words=50, width=12, teachers=20):
    generator = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator)

    student = [normal(positions, width), normal(words, width) / 2, normal(words)]
    teacher = [normal(positions, teachers), normal(words, teachers) / 3, normal(words)]
    return [t.requires_grad_() for t in student], teacher


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 2.5])
@pytest.mark.parametrize("chunk", [64, 7])
@pytest.mark.parametrize("logit_map", [None, LogitMap(0.5, 3.0)])
def test_divergence_and_gradients_are_trls(jsd, monkeypatch, share, temperature, chunk, logit_map):
    """Of hidden states, head and bias; the teacher is wider. In chunks of 7 positions as in one, and
    with logits that their models scale and cap."""
    monkeypatch.setattr(module, "_LEAST_ROWS", chunk)
    monkeypatch.setattr(module, "_LOGITS", 1)
    student, teacher = _tensors()
    hidden, weight, bias = student
    logits = hidden @ weight.T + bias
    teachers = teacher[0] @ teacher[1].T + teacher[2]
    if logit_map:
        logits, teachers = logit_map(logits), logit_map(teachers)
    expected = jsd(logits, teachers, beta=share, temperature=temperature, reduction="sum")
    theirs = torch.autograd.grad(expected, student)
    found = divergence(
        hidden,
        (weight, bias, logit_map),
        teacher[0],
        (teacher[1], teacher[2], logit_map),
        share=share,
        temperature=temperature,
    )
    ours = torch.autograd.grad(found * 2, student)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, 2 * other, rtol=1e-4, atol=1e-5)


def _plain(weight):
    """A head of a matrix alone."""
    return weight, None, None


def test_a_sure_teacher_is_no_trouble():
    """Probabilities that are 0 in float32, on either side or both."""
    width = 4
    for share in (0.0, 0.5, 1.0):
        hidden = (100 * torch.eye(width)).requires_grad_()
        weight = torch.eye(width).requires_grad_()
        teacher = 100 * torch.eye(width).roll(1, 0)
        found = divergence(
            hidden, _plain(weight), teacher, _plain(torch.eye(width)), share=share, temperature=0.1
        )
        gradients = torch.autograd.grad(found, (hidden, weight))
        assert found.isfinite()
        assert all(g.isfinite().all() for g in gradients)


def test_never_all_logits_at_once(monkeypatch):
    """What is held grows with the vocabulary and not with the positions times it."""
    shapes = []
    original = module._logits

    def noted(hidden_CD, head):
        found = original(hidden_CD, head)
        shapes.append(found.shape)
        return found

    monkeypatch.setattr(module, "_logits", noted)
    hidden, weight = torch.randn(1000, 4, requires_grad=True), torch.randn(30_000, 4)
    head = _plain(weight)
    divergence(hidden, head, torch.randn(1000, 4), head, share=0.5, temperature=1.0).backward()
    assert max(rows * words for rows, words in shapes) <= 64 * 30_000
    assert sum(rows for rows, _ in shapes) == 2 * 1000


def test_padding_of_a_vocabulary_counts_for_nothing():
    """A teacher whose head has more rows: those are cut off."""
    (hidden, weight, _), (teacher, other, _) = _tensors()
    fields = {"share": 0.0, "temperature": 1.0}
    long = torch.cat([other, 100 * torch.ones(3, other.shape[1])])
    cut = divergence(hidden, _plain(weight), teacher, _plain(long), **fields)
    student, other = _plain(weight), _plain(other)
    assert torch.equal(cut, divergence(hidden, student, teacher, other, **fields))
    wide = torch.cat([weight, torch.ones(3, weight.shape[1])])
    assert torch.equal(cut, divergence(hidden, _plain(wide), teacher, other, **fields))


@pytest.mark.covers(
    "objective/distill.divergence",
    "objective/distill.beta",
    "objective/distill.temperature",
    "objective/distill.teacher",
)
@pytest.mark.parametrize(
    "fields", [*DIVERGENCES, {"divergence": "reverse", "temperature": 2.0}], ids=str
)
def test_loss_and_gradient_are_trls(bench, animals, same, jsd, fields):
    """Over the answers' tokens, of whole models: the mean over the batch's."""
    share = {"forward": 0.0, "reverse": 1.0}.get(fields["divergence"], fields.get("beta", 0.5))
    objective = bench.objective("distill", teacher="other", **fields)
    model, teacher = bench.model(), bench.model(seed=1)
    rows = [{"prompt": row["prompt"], "completion": row["chosen"]} for row in animals[:5]]
    examples = bench.examples(objective, rows, "completion")
    batch = objective.collate(examples)
    ours = bench.sums(objective, model, [batch])
    with torch.no_grad():
        teachers = teacher(**batch.inputs, use_cache=False).logits
    logits = model(**batch.inputs, use_cache=False).logits
    expected = jsd(
        logits,
        teachers,
        labels=batch.targets["labels"],
        beta=share,
        temperature=fields.get("temperature", 1.0),
    )
    named = dict(model.named_parameters())
    theirs = torch.autograd.grad(expected, list(named.values()))
    same(ours, expected, dict(zip(named, theirs, strict=True)))
    # n answers one at a time are the batch of n.
    alone = [objective.collate([example]) for example in examples]
    same(bench.sums(objective, model, alone), ours.loss, ours.gradient)


def test_beta_is_of_the_mixture_only(bench):
    with pytest.raises(ValueError, match="beta has no effect on the"):
        bench.objective("distill", teacher="other", divergence="forward", beta=0.3)


def test_answers_and_texts(bench):
    """An answer's tokens count; all of a text's do, in pieces."""
    objective = bench.objective("distill", teacher="other")
    tokenizer = bench.context.tokenizer()
    (example,) = bench.examples(
        objective, [{"prompt": "p" * 80, "completion": "yes"}], "completion"
    )
    counted = example.fields["labels"][example.fields["labels"] != -100]
    assert tokenizer.decode(counted[:-1]) == "yes"
    assert counted[-1] == tokenizer.eos_token_id
    assert example.truncated
    pieces = bench.examples(objective, [{"text": "t" * 100}], "text")
    assert [piece.length for piece in pieces] == [64, 37]
    assert all((piece.fields["labels"] != -100).all() for piece in pieces)


def test_a_teacher_of_another_tokenizer_is_refused(bench, tmp_path, finished_run):
    """Its probabilities are of other tokens."""
    other = Artifact(finished_run / "base" / "final").tokenizer()
    objective = bench.objective("distill", teacher="other")
    objective.check(bench.context.tokenizer())
    with pytest.raises(SpecError, match="has another tokenizer"):
        objective.check(other)


def test_a_cut_head_is_refused(stage, animals, write_spec):
    """Before anything runs."""
    spec = stage(
        {"type": "distill", "teacher": "base"},
        _answers(animals),
        strategy={"type": "mesh", "tensor": 2},
    )
    with pytest.raises(SpecError, match="'distill' needs the whole output head"):
        load_spec(write_spec(spec), processes=2)


def _answers(rows):
    return [{"prompt": row["prompt"], "completion": row["chosen"]} for row in rows]


@pytest.mark.parametrize("divergence", ["forward", "reverse", "generalised"])
def test_the_student_follows_the_teacher(stage, animals, hh, run_here, divergence):
    """HH's answers: from a new model to the teacher, which it comes closer to; of the teacher itself it
    is at 0 from the start, in bf16 too."""
    rows = _answers(hh(40))
    objective = {"type": "distill", "teacher": "base", "divergence": divergence}
    spec = stage(objective, rows, budget="12 steps", precision="bf16")
    base = spec["stages"]["base"]["train"]
    base["model"]["init_std"] = 0.2
    spec["stages"]["student"] = {"train": {**base, "model": {**base["model"]}, "budget": "1 steps"}}
    spec["stages"]["student"]["train"]["model"]["init_std"] = 0.02
    same = dict(spec["stages"]["learned"]["train"], budget="1 steps")
    spec["stages"]["same"] = {"train": same}
    spec["stages"]["learned"]["train"]["model"] = "student"
    run = run_here(spec)
    assert run.status == 0
    losses = {
        name: [e["loss"] for e in run.events("step") if e["stage"] == name]
        for name in ("learned", "same")
    }
    assert losses["learned"][0] > 0.1
    assert losses["learned"][-1] < 0.8 * losses["learned"][0]
    assert losses["same"][0] == pytest.approx(0, abs=1e-4)


def test_from_prepared_texts(stage, animals, run_here):
    """A corpus's rows are distilled as they are packed for pre-training."""
    spec = stage({"type": "distill", "teacher": "base"}, _answers(animals), data="corpus")
    spec["stages"]["learned"]["train"] |= {"batch": {"tokens": 256, "sequence": 32}}
    run = run_here(spec)
    assert run.status == 0
    steps = [e for e in run.events("step") if e["stage"] == "learned"]
    assert steps[0]["loss"] == pytest.approx(0, abs=1e-5)
    assert steps[0]["tokens"] == 256
