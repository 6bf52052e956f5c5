"""A text ends at the token with which it first has a stop string, whatever its tokens are made of."""

from __future__ import annotations

from itertools import chain

import pytest
from engine_inference.generation import Text
from hypothesis import given, settings, strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from engine import Generation

TEXT = "猫は座る。the cat → a mat. Ω≈ç√ naïve\n\n終わり。"
LONG = "これはとても長い止めの文字列です"


def _byte_level() -> PreTrainedTokenizerFast:
    """Bytes, and merges of them, of which some hold the end of a character and another's beginning."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<|eos|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator([TEXT * 3], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|eos|>")


def _byte_fallback() -> PreTrainedTokenizerFast:
    """As Llama 2's: characters, and bytes for what is unknown, which are decoded run by run."""
    known = ["<|eos|>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *"abcdehmnt", "猫"]
    tokenizer = Tokenizer(
        models.BPE(
            {token: n for n, token in enumerate(known)}, [], byte_fallback=True, unk_token="<|eos|>"
        )
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.Replace("▁", " "),
            decoders.ByteFallback(),
            decoders.Fuse(),
            decoders.Strip(" ", 1, 0),
        ]
    )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|eos|>")


@pytest.fixture(scope="module")
def tokenizers():
    return {"byte-level": _byte_level(), "byte-fallback": _byte_fallback()}


class Counting:
    """A tokenizer that counts what it decodes at most at once."""

    def __init__(self, tokenizer) -> None:
        self._tokenizer, self.most = tokenizer, 0
        self.eos_token_id = tokenizer.eos_token_id

    def decode(self, tokens, **options):
        self.most = max(self.most, len(tokens))
        return self._tokenizer.decode(tokens, **options)


def _ends_at(tokenizer, tokens, stops) -> int | None:
    """After how many tokens the text ends."""
    text = Text(
        Generation("", max_tokens=len(tokens), stop=stops), [1], len(tokens), tokenizer, set()
    )
    for count, token in enumerate(tokens, 1):
        text.add(token, 0.0)
        if text.ended:
            return count
    return None


def _first_with(tokenizer, tokens, stops) -> int | None:
    """The same, by decoding all of it each time."""
    texts = (tokenizer.decode(tokens[:n], skip_special_tokens=True) for n in range(len(tokens) + 1))
    return next((n for n, text in enumerate(texts) if any(stop in text for stop in stops)), None)


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
@pytest.mark.parametrize(
    "stop", ["。", "→", "る。", " →", "√ na", "\n\n", "猫", "at. Ω", LONG, "。" * 20], ids=repr
)
def test_it_ends_with_the_first_token_that_completes_it(tokenizers, kind, stop):
    """Stop strings of several bytes a character, that begin within a token, that span tokens, and that
    are longer in tokens than in characters."""
    tokenizer = tokenizers[kind]
    tokens = tokenizer.encode(TEXT.replace("終", stop + "終"), add_special_tokens=False)
    wanted = _first_with(tokenizer, tokens, [stop])
    assert _ends_at(tokenizer, tokens, (stop,)) == wanted
    assert wanted < len(tokens)


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_it_ends_as_by_decoding_everything(tokenizers, kind, data):
    """Whatever a model writes: any bytes between characters."""
    tokenizer = tokenizers[kind]
    real = tokenizer.encode(TEXT + LONG, add_special_tokens=False)
    pieces = st.one_of(
        st.lists(st.integers(1, 256), min_size=1, max_size=4),
        st.integers(0, len(real) - 8).map(lambda n: real[n : n + 8]),
    )
    tokens = list(chain(*data.draw(st.lists(pieces, min_size=1, max_size=12))))
    stops = ("。", "→ a", "座る", LONG[:3])
    ours, wanted = _ends_at(tokenizer, tokens, stops), _first_with(tokenizer, tokens, stops)
    if kind == "byte-fallback" and wanted != ours:
        # One wrong byte makes a run of bytes unreadable, before which we have read it.
        assert ours is not None
        assert any(s in tokenizer.decode(tokens[k:ours]) for k in range(ours) for s in stops)
    else:
        assert ours == wanted


@pytest.mark.parametrize("kind", ["byte-level", "byte-fallback"])
def test_a_token_costs_the_same_in_a_long_text(tokenizers, kind):
    """No more than some dozens are decoded at once, of text and of bytes that are none."""
    for tokens in (tokenizers[kind].encode(TEXT * 20, add_special_tokens=False), [228] * 500):
        counting = Counting(tokenizers[kind])
        assert _ends_at(counting, tokens, ("nowhere",)) is None
        assert counting.most < 100
