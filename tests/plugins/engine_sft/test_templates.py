"""Chat templates: built-in ones, one's own, the model's; what they make is what it generates from."""

from __future__ import annotations

import copy

import pytest
from engine_sft.templates import BUILT_IN

from engine import SpecError, answer_tokens, prompt_tokens
from engine.language_model import LanguageModel
from engine.requests import LogLikelihood

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
        with pytest.raises(SpecError, match="begins an answer otherwise"):
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
    prompt = prompt_tokens(bench.tokenizer, row["prompt"])
    answer = answer_tokens(bench.tokenizer, row["completion"])
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

    from engine.data.records import Chat, Completion
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
        assert learnt == answer_tokens(tokenizer, "ey mouse")
    tokenizer.chat_template = None
    (example,) = objective.encode(completion, tokenizer, 256)
    together = tokenizer.encode("".join(pair))
    assert len(together) < example.length  # the trap: it would have been one token


def test_a_likelihood_can_be_of_texts_tokenized_apart(bench):
    """As training has them; else they are one text that is split, as lm-eval does."""
    lm = LanguageModel(bench.model(), bench.tokenizer)
    apart, together = (
        LogLikelihood("a b ", "c<|endoftext|>", apart=apart) for apart in (True, False)
    )
    assert lm._encode([apart]) == [
        (bench.tokenizer.encode("a b "), bench.tokenizer.encode("c<|endoftext|>"))
    ]
    context, continuation = lm._encode([together])[0]
    assert bench.tokenizer.decode(context) == "a b"  # a trailing space moves
    assert bench.tokenizer.decode(continuation) == " c<|endoftext|>"
    assert lm._encode([LogLikelihood("", "c", apart=True)])[0][0] == [bench.tokenizer.bos_token_id]
    ours, theirs = lm.loglikelihoods([apart, LogLikelihood("a b", " c<|endoftext|>")])
    assert (ours.tokens, theirs.tokens) == (2, 3)


def test_completions_need_no_marks(bench, sums):
    """The model's own template will do, if it ends with EOS: it says where an answer begins."""
    ended = QWEN.replace("'<|im_end|>\n'", "eos_token + '\n'")
    objective = bench.objective(template=ended)
    (example,) = bench.encoded(objective, sums[:1])
    assert bench.learnt(example) == sums[0]["completion"] + "<|endoftext|>"


@pytest.mark.parametrize(
    ("template", "told"),
    [
        (QWEN, r"ends an answer with '<\|im_end\|>\\n', without the tokenizer's EOS '<\|endoft"),
        ("{% for m in messages %}", "the chat template cannot be used: Unexpected end of template"),
        ("{{ messages[0].content }}{{ raise_exception('no') }}", "cannot be used: no"),
        ("{{ 1 / 0 }}", "cannot be used: division by zero"),
    ],
)
def test_a_template_that_will_not_do_is_refused(bench, template, told):
    """Before any record is read."""
    with pytest.raises(SpecError, match=told):
        bench.objective(template=template)


def test_conversations_need_marks(bench, talks):
    """A mask cannot be guessed from a text."""
    ended = QWEN.replace("'<|im_end|>\n'", "eos_token + '\n'")
    objective = bench.objective(template=ended)
    with pytest.raises(SpecError, match=r"does not mark answers by \{% generation %\}; set obj"):
        bench.encoded(objective, talks)
    objective = bench.objective()
    with pytest.raises(SpecError, match=r"the tokenizer's chat template is missing; set obj"):
        bench.encoded(objective, talks)


def test_a_record_that_cannot_be_said_is_named(bench, talks):
    """By its id, with the template's own words; so is one without a role or a text."""
    from engine import RunError

    strict = "{% if messages[0].role == 'system' %}{{ raise_exception('no system') }}{% endif %}"
    objective = bench.objective(template=strict + BUILT_IN["plain"])
    with pytest.raises(RunError, match=r"row-1: the chat template cannot say this .*: no system"):
        bench.encoded(objective, copy.deepcopy(talks))
    with pytest.raises(RunError, match="row-0: a message needs a role and a content, both text"):
        bench.encoded(objective, [{"messages": [{"role": "user", "content": None}]}])


def test_marks_that_do_not_fit_the_answers_are_told(bench, talks):
    """Where some answers are learnt and others not, each needs a mark of its own."""
    once = BUILT_IN["plain"].replace("== 'assistant'", "== 'assistant' and loop.last")
    objective = bench.objective(template=once)
    assert [bench.learnt(e) for e in bench.encoded(objective, talks[:1])] == [
        "Then 2, of course.<|endoftext|>"
    ]
    with pytest.raises(Exception, match="row-0: the chat template marks 1 answers of 2"):
        bench.encoded(bench.objective(template=once, turns="last"), talks[:1])
