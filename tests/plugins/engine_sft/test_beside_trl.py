"""Mistral's chat templates beside TRL, which has no marks for them: by prompt–completion rows."""

from __future__ import annotations

from itertools import pairwise

import pytest
from engine_sft.config import SFT
from engine_sft.sft import SFTObjective
from support.models import tiny
from support.tokenizers import TEXTS, byte_level, metaspace

from engine import Completion

_EACH = """{{ bos_token }}{%- for message in messages -%}
{%- if (message['role'] == 'user') != (loop.index0 % 2 == 0) -%}
{{ raise_exception('roles must alternate user/assistant/user/assistant/...') }}{%- endif -%}
{%- if message['role'] == 'user' -%}{{ ASKED }}
{%- else -%}{{ SAID }}{%- endif -%}{%- endfor -%}"""
FORMS = {
    "plain text around a request": ("'[INST] ' + message['content'] + ' [/INST]'", "{}"),
    "a space before the answer": ("'[INST] ' + message['content'] + '[/INST]'", "' ' + {}"),
    "special tokens, no space": ("'[INST]' + message['content'] + '[/INST]'", "{}"),
}
"""Of its first version, of its third, and of its tekken tokenizers'."""
TOKENIZERS = {
    "metaspace": metaspace,
    "byte-level": lambda: byte_level(
        bos=True, specials=["</s>", "<s>", "[INST]", "[/INST]"], bos_token="<s>"
    ),
}


def _rows():
    """Single questions, and the second turn of a conversation."""
    texts = [text.partition("\n")[0] for text in TEXTS[:9]]
    for first, second in pairwise(texts):
        asked = [{"role": "user", "content": first}]
        answer = [{"role": "assistant", "content": f"Yes, {second}"}]
        yield {"prompt": asked, "completion": answer}
        yield {"prompt": [*asked, *answer, {"role": "user", "content": "And then?"}],
               "completion": [{"role": "assistant", "content": "No more."}]}  # fmt: skip


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("family", TOKENIZERS)
def test_tokens_and_labels_are_trls(trl_batch, family, form):
    """Every one of them. BOS stands there once, although template and tokenizer both write it."""
    asked, said = FORMS[form]
    said = said.format("message['content'] + eos_token")
    tokenizer = TOKENIZERS[family]()
    tokenizer.chat_template = _EACH.replace("ASKED", asked).replace("SAID", said)
    tokenizer.pad_token = tokenizer.unk_token or "[INST]"
    model = tiny(vocab_size=len(tokenizer), num_hidden_layers=1, max_position_embeddings=512)
    rows = list(_rows())
    batch = trl_batch(model, tokenizer, rows).batch
    theirs = []
    for tokens, labels in zip(batch["input_ids"].tolist(), batch["labels"].tolist(), strict=True):
        last = max(i for i, label in enumerate(labels) if label >= 0)
        theirs.append((tokens[:last], labels[1 : last + 1]))
    objective, ours = SFTObjective(SFT()), []
    objective.check(tokenizer)
    for number, row in enumerate(rows):
        (example,) = objective.encode(Completion(id=str(number), source="s", **row), tokenizer, 512)
        ours.append((example.fields["input_ids"].tolist(), example.fields["labels"].tolist()))
    bos = tokenizer.bos_token_id
    assert all(tokens.count(bos) == 1 and tokens[0] == bos for tokens, _ in ours)
    assert sorted(ours) == sorted(theirs)
