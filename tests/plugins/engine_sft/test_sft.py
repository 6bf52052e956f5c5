"""Objective `sft`: which tokens are learnt, rows that do not mix examples, a loss that is TRL's."""

from __future__ import annotations

import pytest
import torch

from engine.testing import check_component

SHORT = (
    "{% for m in messages %}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + eos_token }}{% endgeneration %}"
    "{% else %}{{ m.content }}:{% endif %}{% endfor %}"
)


@pytest.mark.parametrize("packing", [True, False])
def test_contract(packing):
    """With a template so short that the kit's conversations fit its rows."""
    check_component("objective", {"type": "sft", "template": SHORT, "packing": packing})


def test_only_the_answer_and_its_end_are_learnt(bench, sums):
    """The prompt is read; EOS is learnt, or the model would not stop."""
    objective = bench.objective()
    for row, example in zip(sums, bench.encoded(objective, sums), strict=True):
        text = bench.tokenizer.decode(example.fields["input_ids"])
        assert text == row["prompt"] + row["completion"]
        assert bench.learnt(example) == row["completion"] + "<|endoftext|>"


@pytest.mark.covers("objective/sft.turns")
def test_the_spec_says_which_turns_are_learnt(bench, talks):
    """All answers of a conversation, or the last."""
    for turns, first in (("all", "2.<|endoftext|> ¦ "), ("last", "")):
        objective = bench.objective(template="chatml", turns=turns)
        example = bench.encoded(objective, talks)[1]
        assert bench.learnt(example) == first + "Then 3, of course.<|endoftext|>"


@pytest.mark.parametrize("flag", [{"train": False}, {"weight": 0}])
def test_a_message_can_be_left_out_of_the_loss(bench, talks, flag):
    """By a word in the message; the others are learnt, and it is still read."""
    first, *others = talks[0]["messages"][1:]
    row = {"messages": [talks[0]["messages"][0], {**first, **flag}, *others]}
    objective = bench.objective(template="chatml")
    (example,) = bench.encoded(objective, [row])
    assert bench.learnt(example) == "Then 2, of course.<|endoftext|>"
    assert "1." in bench.tokenizer.decode(example.fields["input_ids"])
    silent = {"messages": [{**m, **flag} for m in row["messages"]]}
    assert bench.encoded(objective, [silent]) == ["without an answer to learn"]


def test_what_follows_the_last_learnt_answer_is_not_read(bench, talks):
    """It would cost time and teach nothing."""
    objective = bench.objective(template="chatml")
    (example,) = bench.encoded(objective, [{"messages": [*talks[0]["messages"][:3]]}])
    assert bench.tokenizer.decode(example.fields["input_ids"]).endswith("assistant\n1.")


def test_content_may_come_in_parts(bench, talks):
    """Texts are joined; anything else is named."""
    from engine import RunError

    objective = bench.objective(template="chatml")
    plain = bench.encoded(objective, talks[:1])[0]
    parted = [
        {
            **m,
            "content": [
                {"type": "text", "text": part} for part in (m["content"][:2], m["content"][2:])
            ],
        }
        for m in talks[0]["messages"]
    ]
    (example,) = bench.encoded(objective, [{"messages": parted}])
    assert example.fields["input_ids"].tolist() == plain.fields["input_ids"].tolist()
    parted[0]["content"].append({"type": "image", "url": "x.png"})
    with pytest.raises(RunError, match=r"a record with content of type image, not text"):
        bench.encoded(objective, [{"messages": parted}])


def test_a_long_example_loses_its_end_and_says_so(bench, sums):
    """Of an answer that begins inside the row, the beginning is learnt."""
    long = {"prompt": "p" * 500, "completion": "c" * 50}
    objective = bench.objective()
    cut, whole, lost = bench.encoded(objective, [long, sums[0], {**long, "prompt": "p" * 513}])
    assert (cut.length, cut.truncated, bench.learnt(cut)) == (512, True, "c" * 13)
    assert not whole.truncated
    assert lost == "with all answers beyond the 512 tokens of a row"


def test_rows_are_full_and_hold_every_example_once(bench, sums):
    """Best-fit decreasing: 64 examples of 23 to 30 tokens take one row more than must be."""
    objective = bench.objective()
    examples = bench.encoded(objective, sums)
    rows = objective.arrange(examples, 128)
    assert {len(row.fields["input_ids"]) for row in rows} == {128}
    assert sum(row.length for row in rows) == sum(e.length for e in examples)
    assert len(rows) == -(-sum(e.length for e in examples) // 128) + 1
    found = sorted(text for row in rows for text in bench.learnt(row).split(" ¦ "))
    assert found == sorted(bench.learnt(e) for e in examples)
    again = objective.arrange(bench.encoded(objective, sums), 128)
    assert [r.fields["input_ids"].tolist() for r in rows] == [
        r.fields["input_ids"].tolist() for r in again
    ]


@pytest.mark.covers("objective/sft.packing")
def test_packed_is_unpacked(bench, sums, same):
    """The same loss and gradient, in a fifth of the rows."""
    model = bench.model()
    packed, plain = bench.objective(packing=True), bench.objective(packing=False)
    examples = bench.encoded(packed, sums)
    rows, singles = packed.arrange(examples, 128), plain.arrange(examples, 128)
    assert (len(rows), len(singles)) == (14, 64)
    ours = bench.means(packed, model, [packed.collate(rows)])
    same(ours, bench.means(plain, model, [plain.collate(singles)]), 1e-6)


@pytest.mark.parametrize("packing", [True, False])
def test_accumulation_is_one_batch(bench, sums, same, packing):
    """Micro-batches with unlike numbers of answer tokens."""
    model, objective = bench.model(), bench.objective(packing=packing)
    rows = objective.arrange(bench.encoded(objective, sums), 128)
    parts = [objective.collate(rows[i : i + 3]) for i in range(0, len(rows), 3)]
    assert len({part.counts["loss"] for part in parts}) > 1
    whole = bench.means(objective, model, [objective.collate(rows)])
    same(bench.means(objective, model, parts), whole, 1e-6)


@pytest.mark.parametrize("packing", [True, False])
def test_completions_and_their_loss_are_trls(bench, self_instruct, same, trl_batch, packing):
    """On real instructions: the same tokens are learnt, loss and gradient agree to 1e-5."""
    rows = [r for r in self_instruct if len(r["prompt"]) + len(r["completion"]) < 400][:8]
    model, objective = bench.model(), bench.objective(packing=packing)
    examples = bench.encoded(objective, rows)
    theirs = trl_batch(model, bench.tokenizer, rows)
    assert _sorted(examples) == _sorted_trl(theirs.batch)
    ours = bench.means(objective, model, [objective.collate(objective.arrange(examples, 512))])
    assert ours.count == theirs.count
    same(ours, theirs)


@pytest.mark.parametrize("template", ["chatml", "plain"])
def test_conversations_and_their_loss_are_trls(bench, hh, same, trl_batch, template):
    """On real dialogues, by the assistant mask that transformers makes of the template's marks."""
    rows = [r for r in hh if sum(len(m["content"]) + 40 for m in r["messages"]) < 500][:8]
    model, objective = bench.model(), bench.objective(template=template)
    examples = bench.encoded(objective, rows)
    theirs = trl_batch(model, bench.tokenizer, rows, assistant_only_loss=True)
    assert _sorted(examples) == _sorted_trl(theirs.batch)
    ours = bench.means(objective, model, [objective.collate(objective.arrange(examples, 512))])
    same(ours, theirs)


def _sorted(examples) -> list:
    """Inputs up to the last learnt token, and labels, of each example."""
    return sorted((e.fields["input_ids"].tolist(), e.fields["labels"].tolist()) for e in examples)


def _sorted_trl(batch) -> list:
    found = []
    for tokens, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        last = max(i for i, label in enumerate(labels) if label >= 0)
        found.append((tokens[:last], labels[1 : last + 1]))
    return sorted(found)


def test_no_answer_in_a_micro_batch_is_no_loss(bench, sums):
    """A padded row on a rank that ran out of data, say."""
    model, objective = bench.model(), bench.objective()
    (batch,) = [objective.collate(bench.encoded(objective, sums[:1]))]
    batch.targets["labels"].fill_(-100)
    hidden = torch.randn(1, batch.inputs["input_ids"].shape[1], 16, requires_grad=True)
    found = objective.loss(hidden, model.lm_head, batch)["loss"]
    found.backward()
    assert float(found.detach()) == 0.0
    assert not hidden.grad.any()
