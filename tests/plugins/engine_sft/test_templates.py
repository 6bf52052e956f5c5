"""Chat templates: built-in ones, one's own, the model's; what they make is what it generates from."""

from __future__ import annotations

import copy

import pytest
from engine_sft.templates import BUILT_IN

from engine import SpecError
from engine.modeling import RecordError, example_tokens, prompt_tokens

QWEN = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
"""As models bring it: it marks nothing, and ends an answer by a token that may be EOS or not."""


@pytest.mark.covers("objective/sft.template")
@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("plain", "### user\nHow?\n\n### assistant\nSo.<|endoftext|>\n\n"),
        (
            "chatml",
            "<|im_start|>user\nHow?<|endoftext|>\n<|im_start|>assistant\nSo.<|endoftext|>\n",
        ),
        ("{% for m in messages %}[{{ m.content }}]{% endfor %}{{ eos_token }}", None),
    ],
)
def test_the_tokenizer_takes_the_template_with_it(bench, tmp_path, template, text):
    """It is saved beside the model, so that whoever opens it talks as it was taught."""
    from transformers import AutoTokenizer

    if text is None:
        with pytest.raises(SpecError, match="does not begin with its generation prompt"):
            bench.objective(template=template)
        return
    bench.objective(template=template)
    bench.tokenizer.save_pretrained(tmp_path)
    opened = AutoTokenizer.from_pretrained(tmp_path)
    messages = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "So."}]
    assert opened.apply_chat_template(messages, tokenize=False) == text


@pytest.mark.parametrize("template", [None, *BUILT_IN])
def test_training_sees_what_generation_and_rewards_see(bench, template):
    """A completion, and with a template the conversation that says the same: the same ids."""
    row = {"prompt": " What is it? ", "completion": "\nIt is so."}
    objective = bench.objective(template=template)
    (example,) = bench.encoded(objective, [row])
    prompt, answer = example_tokens(bench.tokenizer, row["prompt"], row["completion"])
    assert prompt == prompt_tokens(bench.tokenizer, row["prompt"])
    tokens = [*example.fields["input_ids"].tolist(), int(example.fields["labels"][-1])]
    assert tokens == [*prompt, *answer]
    assert [x for x in example.fields["labels"].tolist() if x >= 0] == answer
    if template:
        said = [("user", row["prompt"]), ("assistant", row["completion"])]
        messages = [{"role": role, "content": content} for role, content in said]
        (talk,) = bench.encoded(objective, [{"messages": messages}])
        for name in ("input_ids", "labels", "position_ids"):
            assert talk.fields[name].tolist() == example.fields[name].tolist()


def test_pairs_that_would_merge_stay_apart(finished_run):
    """With tokens of several bytes: a prompt's last and an answer's first are never one token."""
    from transformers import AutoTokenizer

    from engine import Chat, Completion
    from engine.testing import StandAloneContext

    tokenizer = AutoTokenizer.from_pretrained(finished_run / "corpus" / "tokenizer")
    objective = StandAloneContext().build("objective", {"type": "sft", "template": "plain"})
    objective.check(tokenizer)
    common = {"id": "a", "source": "test"}
    pair = ("and saw one small gr", "ey mouse")
    messages = [{"role": r, "content": c} for r, c in zip(("user", "assistant"), pair, strict=True)]
    completion = Completion(prompt=pair[0], completion=pair[1], **common)
    for record in (completion, Chat(messages=messages, **common)):
        (example,) = objective.encode(record, tokenizer, 256)
        learnt = [x for x in example.fields["labels"].tolist() if x >= 0]
        assert learnt == [*tokenizer.encode("ey mouse"), tokenizer.eos_token_id]
    tokenizer.chat_template = None
    (example,) = objective.encode(completion, tokenizer, 256)
    together = tokenizer.encode("".join(pair))
    assert len(together) < example.length  # the trap: it would have been one token


def test_nothing_needs_marks(bench, sums, talks):
    """A model's own template will do: prefixes say where an answer begins; its end is learnt."""
    ended = QWEN.replace("'<|im_end|>\n'", "eos_token + '\n'")
    objective = bench.objective(template=ended)
    (example,) = bench.encoded(objective, sums[:1])
    assert bench.learnt(example) == sums[0]["completion"] + "<|endoftext|>\n"
    (example,) = bench.encoded(objective, talks[:1])
    assert bench.learnt(example) == "1.<|endoftext|>\n ¦ Then 2, of course.<|endoftext|>\n"
    with pytest.raises(SpecError, match=r"the tokenizer's chat template is missing; set obj"):
        bench.encoded(bench.objective(), talks)


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (QWEN, "ends without a special token"),
        ("{% for m in messages %}", "the chat template cannot be used: Unexpected end of template"),
        ("{{ messages[0].content }}{{ raise_exception('no') }}", "cannot be used: no"),
        ("{{ 1 / 0 }}", "cannot be used: division by zero"),
    ],
)
def test_a_template_that_will_not_do_is_refused(bench, template, told):
    """Before any record is read."""
    with pytest.raises(SpecError, match=told):
        bench.objective(template=template)


def test_a_record_that_cannot_be_said_has_its_reason(bench, talks):
    """The template's own words for one, and the same name for all of a kind."""
    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    objective = bench.objective(template=strict + BUILT_IN["plain"])
    with pytest.raises(RecordError, match=r"that the chat template refuses: no system") as raised:
        bench.encoded(objective, copy.deepcopy(talks))
    assert raised.value.reason == "that the chat template refuses"
    with pytest.raises(RecordError, match="a message whose role or content is not text"):
        bench.encoded(
            objective, [{"messages": [{"role": "user"}, {"role": "assistant", "content": "a"}]}]
        )


def test_marks_that_do_not_fit_the_answers_are_not_heard(bench, talks):
    """Where only some answers are marked, prefixes tell of all."""
    once = BUILT_IN["plain"].replace("== 'assistant'", "== 'assistant' and loop.last")
    once = once.replace("message['content'] + ''", "message['content'] + eos_token")
    objective = bench.objective(template=once)
    assert [bench.learnt(e) for e in bench.encoded(objective, talks[:1])] == [
        "1.<|endoftext|>\n\n ¦ Then 2, of course.<|endoftext|>\n\n"
    ]
